"""Labels: how the answers of a table or a client become numbers, and how a score becomes an answer.

Codes are float64: 0 or 1 for binary, the place among `classes` for multiclass, the value for regression;
NaN stands for a label that is absent or that the model does not know.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from perennial.errors import TrainingError
from perennial.schema import float_text
from perennial.spec import Task

Floats = np.ndarray[Any, np.dtype[np.float64]]

_TRUTHS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def fit_classes(task: Task, labels: pl.Series) -> tuple[str, ...]:
    """The classes of a multiclass target, sorted by name; () for other tasks.

    Raises TrainingError when the labels cannot be learned: none at all, a single class, or not of the task.
    """
    known = labels.drop_nulls()
    if known.is_empty():
        raise TrainingError(f"target {labels.name!r} has no labels; give rows whose answer is known")
    classes = tuple(sorted(_texts(known).unique().to_list())) if task == "multiclass" else ()
    codes = encode_labels(task, classes, known)
    if np.isnan(codes).any():
        wrong = known[int(np.isnan(codes).argmax())]
        wanted = "0 or 1, or true or false" if task == "binary" else "a finite number"
        raise TrainingError(f"target {labels.name!r} has the label {wrong!r:.80}, but a {task} model needs {wanted}")
    if task != "regression" and np.unique(codes).size < 2:
        raise TrainingError(f"target {labels.name!r} has the single class {known[0]!r:.80}; a {task} model needs at least two")
    return classes


def encode_labels(task: Task, classes: Sequence[str], labels: pl.Series) -> Floats:
    """Codes of the labels, float64 (n,)."""
    if task == "regression":
        return _finite(labels.cast(pl.Float64, strict=False).to_numpy())
    codes = _TRUTHS if task == "binary" else {name: float(code) for code, name in enumerate(classes)}
    texts = _texts(labels)
    coded = texts.str.to_lowercase() if task == "binary" else texts
    return coded.replace_strict(list(codes), list(codes.values()), default=None, return_dtype=pl.Float64).to_numpy(writable=True)


def label_of(task: Task, classes: Sequence[str], threshold: float, score: float | Sequence[float]) -> bool | str | float:
    """The answer a score stands for: true from the threshold on, the likeliest class, or the score itself."""
    if task == "multiclass":
        return classes[int(np.argmax(np.asarray(score)))]
    value = float(np.asarray(score))
    return value >= threshold if task == "binary" else value


def _texts(labels: pl.Series) -> pl.Series:
    """Labels as texts, 1.0 and 1 alike."""
    if labels.dtype.is_float():
        return labels.to_frame("x").select(float_text(pl.col("x").cast(pl.Float64).fill_nan(None)))["x"]
    return labels.cast(pl.String)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
