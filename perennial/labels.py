"""Labels: what a label of a task may look like, how it is stored, and the code that metrics and learners take for it.

`LabelCodec` is the one rule, in two forms that a property test holds equal: `parse` for one value as a client sends it,
`parse_column` and `encode_column` for a table's column. A label is stored as true or false, as the name of its class, or as a
finite number. Its code is 0 or 1, the place of its class among `classes`, or the number; a class that the model does not know
has the place after the last one, which metrics score with probability 0; NaN stands for a label that is absent.

| task       | a value                                                              | a column may also be                       |
| ---------- | -------------------------------------------------------------------- | ------------------------------------------ |
| binary     | true, false, 1, 0, or as a text: `true false yes no 1 0` in any case | Decimal, Enum or Categorical               |
| multiclass | a text, a whole number, true or false; one of the declared classes   | Decimal, Enum or Categorical               |
| regression | a finite number                                                      | Decimal; a text that spells such a number  |

A binary target of two other values needs `positive` in the spec; then those two are its labels, and true and false.
Polars and numpy are loaded by the column forms alone, so that a process that checks single labels does without them.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from perennial.errors import TrainingError
from perennial.spec import ModelSpec, Task

if TYPE_CHECKING:
    import polars as pl

    from perennial.arrays import Floats

StoredLabel = bool | str | float  # a label in the one type of its task
MAX_CLASS = 256  # characters of a class's name: what is longer is a document, not a class

EXPECTED: dict[Task, str] = {  # how messages name what a label of a task may be
    "binary": "true, false, 1 or 0 (or yes or no)",
    "multiclass": f"the name of a class: a text of 1 to {MAX_CLASS} characters, a whole number, true or false",
    "regression": "a finite number",
}


@dataclass(frozen=True, slots=True)
class LabelCodec:
    """The labels of one task.

    `classes` are those that a multiclass model knows, in the order of its scores; `declared` the only ones that a label may
    have, where the spec names them. `texts` are the values of a binary target that mean false and true, where the spec names
    the latter; the former is "" as long as no table has shown it.
    """

    task: Task
    classes: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        if self.declared:
            return f"one of the declared classes {', '.join(map(repr, self.declared))}"
        if self.texts:
            negative, positive = self.texts
            return f"true, false, {positive!r} or {negative!r}" if negative else f"true, false or {positive!r}"
        return EXPECTED[self.task]

    @property
    def dtype(self) -> "pl.DataType":
        import polars as pl

        return {"binary": pl.Boolean(), "multiclass": pl.String(), "regression": pl.Float64()}[self.task]

    def parse(self, value: object) -> StoredLabel:
        """A value as it is stored; raises ValueError saying what was expected. A stored label stays what it is."""
        stored = self._read(value, _PARSE[self.task])
        if stored is None:
            raise ValueError(self.expected)
        return stored

    def parse_column(self, labels: "pl.Series") -> "pl.Series":
        """A table's labels as they are stored, under the same name; null where a label is absent, NaN, or none of this task."""
        import polars as pl

        if self.task == "regression" and (labels.dtype.is_float() or labels.dtype.is_integer()):
            numbers = labels.cast(pl.Float64)
            return numbers.set(~numbers.is_finite(), None)
        if labels.dtype in (pl.Enum, pl.Categorical):
            labels = labels.cast(pl.String)
        if not (labels.dtype.is_numeric() or labels.dtype in (pl.Boolean, pl.String)):
            return pl.Series(labels.name, [None] * labels.len(), dtype=self.dtype)
        known = labels.drop_nulls()
        known = (known.drop_nans() if known.dtype.is_float() else known).unique()
        parse = _number_text if self.task == "regression" and labels.dtype == pl.String else _PARSE[self.task]
        stored = pl.Series([self._read(value, parse) for value in known.to_list()], dtype=self.dtype)
        return labels.replace_strict(known, stored, default=None, return_dtype=self.dtype)

    def encode_column(self, labels: "pl.Series") -> "Floats":
        """Codes of a table's labels, float64 (n,); NaN where a label is absent or none of this task."""
        import polars as pl

        stored = codes = self.parse_column(labels)
        if self.task == "multiclass":
            known = list(self.classes)
            codes = stored.replace_strict(known, list(range(len(known))), default=len(known), return_dtype=pl.Float64)
        return codes.cast(pl.Float64).set(stored.is_null(), None).fill_null(math.nan).to_numpy(writable=True)

    def unknown(self, labels: "pl.Series") -> dict[str, int]:
        """How often each class occurs that the model does not know, by name; empty for tasks without classes."""
        if self.task != "multiclass":
            return {}
        stored = self.parse_column(labels)
        counts = stored.filter(stored.is_not_null() & ~stored.is_in(list(self.classes))).value_counts()
        return dict(sorted(counts.iter_rows()))

    def is_refused(self, labels: "pl.Series") -> "pl.Series":
        """A mask of the rows whose value is there and is no label of this task."""
        present = labels.is_not_null()
        if labels.dtype.is_float():
            present &= labels.is_not_nan()
        return present & self.parse_column(labels).is_null()

    def _read(self, value: object, parse: Callable[[object], StoredLabel | None]) -> StoredLabel | None:
        if self.texts and not isinstance(value, bool):
            name = _class_name(value)
            return name == self.texts[1] if name in self.texts else None
        stored = parse(value)
        return None if self.declared and stored not in self.declared else stored

    def decode(self, score: float | Sequence[float], threshold: float) -> StoredLabel:
        """The label a score stands for: true from the threshold on, the likeliest class, or the score itself."""
        import numpy as np

        if self.task == "multiclass":
            return self.classes[int(np.argmax(np.asarray(score)))]
        value = float(np.asarray(score))
        return value >= threshold if self.task == "binary" else value


def codec_of(spec: ModelSpec, texts: tuple[str, ...] = ()) -> LabelCodec:
    """What the spec says of its labels; `texts` are those that a table has shown (`fit_texts`)."""
    if spec.task == "multiclass":
        return LabelCodec(spec.task, declared=spec.classes)
    if spec.positive is None:
        return LabelCodec(spec.task)
    negative = next((name for name in spec.classes if name != spec.positive), "")
    return LabelCodec(spec.task, texts=texts or (negative, spec.positive))


def fit_texts(spec: ModelSpec, labels: "pl.Series") -> tuple[str, ...]:
    """The values of a binary target that mean false and true, where the spec names the latter; () for other targets.

    Values beside these two that are no more than checks.max_bad_rows are left to the checks. Raises TrainingError where the
    target has two values and nothing says which is true, or not those that the spec names.
    """
    import polars as pl

    if spec.task != "binary" or (labels.dtype == pl.Boolean and spec.positive in (None, "true")):
        return ()
    counts, odd = _class_counts(labels), spec.checks.max_bad_rows * labels.len()
    names, others = list(counts), [name for name in counts if name != spec.positive]
    shown = (" and " if len(names) == 2 else ", ").join(map(repr, names[:5]))
    if spec.positive is None:
        if len(names) != 2 or sum(counts[name] for name in names if _truth(name) is None) <= odd:
            return ()
        keys = " or ".join(f"positive = {_toml(name)}" for name in names)
        wrong = f"has the values {shown}, and nothing says which of them is true: add {keys} to the spec"
    elif labels.dtype == pl.Boolean:
        wrong = "is Boolean and says itself what is true: leave `positive` out of the spec"
    elif spec.positive not in names and names:
        wrong = f"never has the value {spec.positive!r} that `positive` names; it has {shown}"
    elif spec.classes:
        return codec_of(spec).texts
    elif sum(counts[name] for name in others[1:]) <= odd:
        return (others[0] if others else "", spec.positive)
    else:
        declared = f"classes = [{_toml(others[0])}, {_toml(spec.positive)}]"
        wrong = f"has {len(names)} values ({shown}) where a binary model has two: correct them, or add {declared}"
    raise TrainingError(f"target {labels.name!r} {wrong}")


def similar_class(name: str, known: Iterable[str]) -> str | None:
    """The known class that `name` is probably a misspelling of: one that differs in case, surrounding blanks or `.0` only."""
    folded = name.strip().casefold().removesuffix(".0")
    return next((other for other in known if other != name and other.strip().casefold().removesuffix(".0") == folded), None)


def fit_classes(task: Task, labels: "pl.Series") -> tuple[str, ...]:
    """The classes of a multiclass target, sorted by name; () for other tasks.

    Raises TrainingError naming target, value and what is expected when nothing can be learnt from the labels.
    """
    codec = LabelCodec(task)
    for wrong in labels.filter(codec.is_refused(labels)).head(1).to_list():
        raise TrainingError(f"target {labels.name!r} has the label {wrong!r:.80}, but a {task} model needs {codec.expected}")
    found = codec.parse_column(labels).drop_nulls().unique().sort()
    if found.is_empty():
        raise TrainingError(f"target {labels.name!r} has no labels; give rows whose label is known")
    if task != "regression" and found.len() < 2:
        raise TrainingError(f"target {labels.name!r} has the single class {found[0]!r:.80}; a {task} model needs at least two")
    return tuple(found.to_list()) if task == "multiclass" else ()


def _class_counts(labels: "pl.Series") -> dict[str, int]:
    """How often a target has each value, by the name that it has as a class, most frequent first."""
    import polars as pl

    if not (labels.dtype.is_numeric() or labels.dtype in (pl.Boolean, pl.String, pl.Enum, pl.Categorical)):
        return {}
    counts: dict[str, int] = {}
    for value, count in labels.drop_nulls().value_counts(sort=True).iter_rows():
        if (name := _class_name(value)) is not None:
            counts[name] = counts.get(name, 0) + count
    return counts


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_TRUTHS = {"0": False, "0.0": False, "false": False, "no": False, "1": True, "1.0": True, "true": True, "yes": True}


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return bool(value) if isinstance(value, (int, float, Decimal)) and value in (0, 1) else None


def _class_name(value: object) -> str | None:
    """A class under one name, however it comes: 1, 1.0 and "1" are the same class; a fraction is none, for it may be rounded."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (float, Decimal)):
        value = int(value) if math.isfinite(value) and value == int(value) else None
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CLASS or any("\ud800" <= letter <= "\udfff" for letter in text):
        return None  # half of a surrogate pair is no text
    return text


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def _number_text(text: object) -> float | None:
    try:
        return _number(float(str(text)))
    except ValueError:
        return None


_PARSE: dict[Task, Callable[[object], StoredLabel | None]] = {"binary": _truth, "multiclass": _class_name, "regression": _number}
