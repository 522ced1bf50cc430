"""LightGBM's text form of a model, written from trees of another library; LightGBM reads it as it reads its own.

Covers what such trees need: numbers split at a threshold, categories by a set of codes, a side for null, leaves with values and
counts of rows, which Shapley values weigh by. Values and thresholds are written with all their digits, gains with six,
as LightGBM itself does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.spec import Task

CATEGORICAL, NULL_LEFT, NULL_IS_NAN = 1, 2, 8  # bits of LightGBM's decision_type

FARTHEST = 1e308  # the text has no infinity

OBJECTIVES = {"binary": "binary sigmoid:1", "regression": "regression", "multiclass": "multiclass num_class:{outputs}"}


@dataclass(frozen=True)
class Split:
    """An inner node. Left goes a number up to the threshold, or a code in the set; null where `null_left` says, a code's right.

    Children are places of other splits, or -1 - the place of a leaf. `count` is how many rows came by in training.
    """

    column: int
    gain: float
    count: int
    left: int
    right: int
    test: float | frozenset[int]
    null_left: bool = False


@dataclass(frozen=True)
class Tree:
    """Values and training rows of the leaves, and the splits, the root first; without splits one leaf is the tree."""

    values: tuple[float, ...]
    counts: tuple[int, ...]
    splits: tuple[Split, ...] = ()

    @classmethod
    def constant(cls, value: float) -> "Tree":
        return cls((value,), (1,))


def model_text(task: Task, columns: int, base: Sequence[float], rounds: Sequence[Sequence[Tree]]) -> str:
    """A model of this task: for each round a tree for each output; `base` is the raw score before the first round."""
    outputs = len(base)
    first = [Tree.constant(0.0)] * outputs if not rounds else rounds[0]
    trees = [*map(_raised, first, base), *(tree for trees in rounds[1:] for tree in trees)]
    head = {
        "version": "v4",
        "num_class": outputs,
        "num_tree_per_iteration": outputs,
        "label_index": 0,
        "max_feature_idx": columns - 1,
        "objective": OBJECTIVES[task].format(outputs=outputs),
        "feature_names": _row(f"f{at}" for at in range(columns)),
        "feature_infos": _row("none" for _ in range(columns)),
    }
    texts = [f"Tree={number}\n{_tree_text(tree)}\n\n" for number, tree in enumerate(trees)]
    head["tree_sizes"] = _row(len(text.encode()) for text in texts)
    return f"tree\n{_lines(head)}\n\n{''.join(texts)}end of trees\n"


def _raised(tree: Tree, base: float) -> Tree:
    """The tree with the base in its leaves, for the text has no other place for it."""
    return Tree(tuple(value + base for value in tree.values), tree.counts, tree.splits)


def _tree_text(tree: Tree) -> str:
    sets = [split.test for split in tree.splits if isinstance(split.test, frozenset)]
    fields = {"num_leaves": len(tree.values), "num_cat": len(sets), **(_split_fields(tree.splits) if tree.splits else {})}
    fields |= {"leaf_value": _row(map(repr, tree.values)), "leaf_count": _row(tree.counts)}
    if tree.splits:
        fields["leaf_weight"], fields["internal_weight"] = _row(tree.counts), _row(split.count for split in tree.splits)
    if sets:
        words = [_words(codes) for codes in sets]
        ends = [sum(map(len, words[:number])) for number in range(len(words) + 1)]
        fields |= {"cat_boundaries": _row(ends), "cat_threshold": _row(word for some in words for word in some)}
    return _lines({**fields, "is_linear": 0, "shrinkage": 1}) + "\n"


def _split_fields(splits: Sequence[Split]) -> dict[str, str]:
    thresholds, sets = [], 0
    for split in splits:
        categorical = isinstance(split.test, frozenset)
        thresholds.append(str(sets) if isinstance(split.test, frozenset) else repr(max(-FARTHEST, min(split.test, FARTHEST))))
        sets += categorical
    return {
        "split_feature": _row(split.column for split in splits),
        "split_gain": _row(f"{split.gain:g}" for split in splits),
        "threshold": _row(thresholds),
        "decision_type": _row(map(_decision, splits)),
        "left_child": _row(split.left for split in splits),
        "right_child": _row(split.right for split in splits),
        "internal_value": _row(0 for _ in splits),
        "internal_count": _row(split.count for split in splits),
    }


def _decision(split: Split) -> int:
    return NULL_IS_NAN | (CATEGORICAL if isinstance(split.test, frozenset) else NULL_LEFT * split.null_left)


def _words(codes: frozenset[int]) -> list[int]:
    """The set as a bitset of 32-bit words."""
    words = [0] * (max(codes, default=0) // 32 + 1)
    for code in codes:
        words[code // 32] |= 1 << code % 32
    return words


def _lines(fields: dict[str, object]) -> str:
    return "\n".join(f"{name}={value}" for name, value in fields.items())


def _row(values: object) -> str:
    return " ".join(map(str, values))  # type: ignore[call-overload]
