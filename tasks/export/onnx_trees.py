"""Boosted trees as one TreeEnsemble operator of ONNX, for every learner that keeps its trees as a LightGBM booster.

Each split of LightGBM has its like there: `value <= threshold` with a side for null, and membership in a set of codes, which null
and unknown never have. All numbers are doubles, as in LightGBM, so that no row falls on another side of a threshold.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ExportError
from perennial.learners.lightgbm import TreeEstimator

if TYPE_CHECKING:
    import onnx

LEQ, MEMBER = 0, 6  # modes of a node

SUM = 1


@dataclass
class Ensemble:
    """The attributes of the operator while trees are added: a value for each split, each leaf and each tree."""

    outputs: int
    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    null_is_true: list[int] = field(default_factory=list)
    children: list[list[tuple[int, bool]]] = field(default_factory=list)  # of a split: true and false, (place, is a leaf)
    members: list[list[float]] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, tree: dict[str, Any], target: int) -> None:
        """Add a tree of LightGBM's dump; one that is a single leaf is a split with that leaf on both sides."""
        self.roots.append(len(self.features))
        if "split_index" in tree:
            self._add_split(tree, target)
        else:
            leaf = self._add_leaf(tree, target)
            self._add_node(0, LEQ, 0.0, null_is_true=False)
            self.children[-1] = [leaf, leaf]

    def _add_split(self, root: dict[str, Any], target: int) -> None:
        waiting = [(root, self._open(root))]
        while waiting:
            split, place = waiting.pop()
            for child in (split["left_child"], split["right_child"]):
                if "split_index" in child:
                    waiting.append((child, self._open(child)))
                    self.children[place].append((waiting[-1][1], False))
                else:
                    self.children[place].append(self._add_leaf(child, target))

    def _open(self, split: dict[str, Any]) -> int:
        """Add a split whose children are still to come; its place."""
        if split["missing_type"] == "Zero":
            raise ExportError("a model that was trained with zero_as_missing has no ONNX form: ONNX knows NaN as missing only")
        if split["decision_type"] == "==":
            # A set comes as it is met in the list of nodes, so it is added at the same time.
            self.members.append([float(code) for code in split["threshold"].split("||")])
            return self._add_node(split["split_feature"], MEMBER, 0.0, null_is_true=False)
        threshold = float(split["threshold"])
        null_is_true = split["default_left"] if split["missing_type"] == "NaN" else threshold >= 0  # else LightGBM reads 0
        return self._add_node(split["split_feature"], LEQ, threshold, null_is_true=null_is_true)

    def _add_node(self, feature: int, mode: int, split: float, *, null_is_true: bool) -> int:
        self.features.append(feature)
        self.modes.append(mode)
        self.splits.append(split)
        self.null_is_true.append(int(null_is_true))
        self.children.append([])
        return len(self.features) - 1

    def _add_leaf(self, leaf: dict[str, Any], target: int) -> tuple[int, bool]:
        if "leaf_coeff" in leaf:
            raise ExportError("a model that was trained with linear_tree has no ONNX form: ONNX knows leaves of one value only")
        self.leaves.append(float(leaf["leaf_value"]))
        self.targets.append(target)
        return len(self.leaves) - 1, True

    def node(self, rows: str, raw: str) -> "onnx.NodeProto":
        """The operator, from the rows to the raw scores (n, outputs)."""
        from onnx import helper, numpy_helper

        true, false = zip(*self.children, strict=True)
        sets = [value for members in self.members for value in (*members, float("nan"))]
        doubles = {"nodes_splits": self.splits, "leaf_weights": self.leaves, **({"membership_values": sets} if sets else {})}
        return helper.make_node(
            "TreeEnsemble",
            [rows],
            [raw],
            domain="ai.onnx.ml",
            aggregate_function=SUM,
            n_targets=self.outputs,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_modes=numpy_helper.from_array(np.array(self.modes, dtype=np.uint8)),
            nodes_missing_value_tracks_true=self.null_is_true,
            nodes_truenodeids=[place for place, _ in true],
            nodes_trueleafs=[int(leaf) for _, leaf in true],
            nodes_falsenodeids=[place for place, _ in false],
            nodes_falseleafs=[int(leaf) for _, leaf in false],
            leaf_targetids=self.targets,
            **{name: numpy_helper.from_array(np.array(values, dtype=np.float64)) for name, values in doubles.items()},
        )


def tree_nodes(estimator: TreeEstimator, rows: str, raw: str) -> list["onnx.NodeProto"]:
    """The nodes from the rows to the raw scores, (n, outputs)."""
    dump = estimator.booster.dump_model()
    outputs = int(dump["num_tree_per_iteration"])
    ensemble = Ensemble(outputs)
    for number, tree in enumerate(dump["tree_info"]):
        ensemble.add(tree["tree_structure"], number % outputs)
    return [ensemble.node(rows, raw)]
