"""Labels: what a label of a task may look like, how it is stored, and the code that metrics and learners take for it.

`LabelCodec` is the one rule, in two forms that a property test holds equal: `parse` takes one value as a client sends it,
`parse_column` and `encode_column` take a table's column. A label is stored as true or false (binary), as the name of
its class (multiclass) or as a finite number (regression). Its code is 0 or 1, the place of its class among `classes`, or the
number; NaN stands for a label that is absent or of a class that the model does not know.

| task       | one value                                      | a column may also be                                             |
| ---------- | ---------------------------------------------- | ---------------------------------------------------------------- |
| binary     | true, false, 1, 0                              | Decimal; text, Enum or Categorical: `0 1 true false` in any case |
| multiclass | a text, a whole number, true or false          | Decimal; Enum or Categorical                                     |
| regression | a finite number                                | Decimal; text, Enum or Categorical that spells a finite number   |

Texts are read as numbers and truths in tables only, where a CSV file may leave nothing else; a client's text is a text.
Polars and numpy are loaded by the column forms alone, so that a process that checks single labels does without them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from perennial.errors import TrainingError
from perennial.spec import Task

if TYPE_CHECKING:
    import polars as pl

    from perennial.arrays import Floats

StoredLabel = bool | str | float  # a label in the one type of its task

MAX_CLASS = 256  # characters of a class's name: what is longer is a document, not a class

EXPECTED: dict[Task, str] = {
    "binary": "true, false, 1 or 0",
    "multiclass": f"the name of a class: a text of 1 to {MAX_CLASS} characters, a whole number, true or false",
    "regression": "a finite number",
}
"""How messages name what a label of a task may be."""


@dataclass(frozen=True, slots=True)
class LabelCodec:
    """The labels of one task; `classes` are those of a multiclass model, in the order of its scores."""

    task: Task
    classes: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return EXPECTED[self.task]

    @property
    def dtype(self) -> "pl.DataType":
        import polars as pl

        return {"binary": pl.Boolean(), "multiclass": pl.String(), "regression": pl.Float64()}[self.task]

    def parse(self, value: object) -> StoredLabel:
        """A value as it is stored; raises ValueError saying what was expected. A stored label stays what it is."""
        stored = _PARSE[self.task](value)
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
        parse = _PARSE_TEXT[self.task] if labels.dtype == pl.String else _PARSE[self.task]
        stored = pl.Series([parse(value) for value in known.to_list()], dtype=self.dtype)
        return labels.replace_strict(known, stored, default=None, return_dtype=self.dtype)

    def encode_column(self, labels: "pl.Series") -> "Floats":
        """Codes of a table's labels, float64 (n,); NaN where a label is absent, unknown or none of this task."""
        import polars as pl

        codes = self.parse_column(labels)
        if self.task == "multiclass":
            places = [float(place) for place in range(len(self.classes))]
            codes = codes.replace_strict(list(self.classes), places, default=None, return_dtype=pl.Float64)
        return codes.cast(pl.Float64).fill_null(math.nan).to_numpy(writable=True)

    def is_refused(self, labels: "pl.Series") -> "pl.Series":
        """A mask of the rows whose value is there and is no label of this task."""
        present = labels.is_not_null()
        if labels.dtype.is_float():
            present &= labels.is_not_nan()
        return present & self.parse_column(labels).is_null()

    def decode(self, score: float | Sequence[float], threshold: float) -> StoredLabel:
        """The label a score stands for: true from the threshold on, the likeliest class, or the score itself."""
        import numpy as np

        if self.task == "multiclass":
            return self.classes[int(np.argmax(np.asarray(score)))]
        value = float(np.asarray(score))
        return value >= threshold if self.task == "binary" else value


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


def _truth(value: object) -> bool | None:
    return bool(value) if isinstance(value, (int, float, Decimal)) and value in (0, 1) else None


def _class_name(value: object) -> str | None:
    """A class under one name, however it comes: 1, 1.0 and "1" are the same class; a fraction is none, for it may be rounded."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (float, Decimal)):
        value = int(value) if math.isfinite(value) and value == int(value) else None
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CLASS:
        return None
    return None if any("\ud800" <= character <= "\udfff" for character in text) else text  # half a surrogate pair is no text


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def _number_text(text: str) -> float | None:
    try:
        return _number(float(text))
    except ValueError:
        return None


_PARSE: dict[Task, Callable[[object], StoredLabel | None]] = {"binary": _truth, "multiclass": _class_name, "regression": _number}
_PARSE_TEXT: dict[Task, Callable[[str], StoredLabel | None]] = {
    "binary": lambda text: {"0": False, "1": True, "false": False, "true": True}.get(text.lower()),
    "multiclass": _class_name,
    "regression": _number_text,
}
