"""One rule says what a label is, for a client's value and for a table's column alike, and how a score becomes a label."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import TrainingError
from perennial.labels import MAX_CLASS, LabelCodec, fit_classes
from perennial.spec import Task

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
CLASSES = ("0", "1", "2", "a", "false", "true")

small = st.integers(-2, 3)
texts = st.sampled_from(["", "a", "b", "0", "1", "true", "False", "2.5", "nan", "1_0", "é", "x" * (MAX_CLASS + 1)]) | st.text(
    "aTe01.-é ", max_size=6
)
COLUMNS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "Boolean": (st.booleans(), pl.Boolean),
    "Int64": (small | st.integers(-(2**63), 2**63 - 1), pl.Int64),
    "UInt8": (st.integers(0, 255), pl.UInt8),
    "Float64": (small.map(float) | st.floats(), pl.Float64),
    "Decimal": (small.map(Decimal) | st.decimals(-1000, 1000, places=2), pl.Decimal(38, 2)),
    "String": (texts, pl.String),
    "Categorical": (texts, pl.Categorical),
    "Enum": (st.sampled_from(CLASSES), pl.Enum(CLASSES)),
    "Date": (st.dates(), pl.Date),
    "Null": (st.none(), pl.Null),
}


def is_accepted(codec: LabelCodec, value: object) -> bool:
    try:
        codec.parse(value)
    except ValueError:
        return False
    return True


def encode(codec: LabelCodec, value: object) -> float:
    stored = [codec.parse(value)] if is_accepted(codec, value) else [None]
    return float(codec.encode_column(pl.Series(stored, dtype=codec.dtype))[0])


@given(st.data(), st.sampled_from(TASKS), st.sampled_from(sorted(COLUMNS)))
def test_a_column_says_of_each_value_what_a_single_value_says(data: st.DataObject, task: Task, kind: str) -> None:
    """Only numbers in texts are left to the column: a client's text is a text, a table's may be all that a CSV left."""
    values, dtype = COLUMNS[kind]
    cells = data.draw(st.lists(st.none() | values, max_size=6))
    codec, column = LabelCodec(task, CLASSES if task == "multiclass" else ()), pl.Series("late", cells, dtype=dtype)
    codes, stored = codec.encode_column(column), codec.parse_column(column)
    assert (codes.dtype, codes.shape, stored.dtype, stored.name) == (np.float64, (len(cells),), codec.dtype, "late")
    np.testing.assert_array_equal(codec.encode_column(stored), codes)
    for cell, kept, code, refused in zip(cells, stored, codes, codec.is_refused(column), strict=True):
        absent = cell is None or cell != cell
        assert refused == (not absent and kept is None)
        if kept is not None:
            assert (type(codec.parse(kept)), codec.parse(kept)) == (type(kept), kept)
        if task != "regression" or not isinstance(cell, str):
            np.testing.assert_equal(code, encode(codec, cell))
            assert refused == (not absent and not is_accepted(codec, cell))


@pytest.mark.parametrize(
    ("task", "value", "code", "kept"),
    [
        *[("binary", value, 1, True) for value in (True, 1, 1.0, Decimal(1))],
        *[("binary", value, 0, False) for value in (False, 0, 0.0, -0.0)],
        *[("multiclass", value, 1, "1") for value in (1, 1.0, "1", Decimal("1.00"))],
        ("multiclass", True, 5, "true"),
        ("multiclass", "a", 3, "a"),
        ("multiclass", "stranger", 6, "stranger"),
        *[("binary", value, 1, True) for value in ("1", "1.0", "TRUE", " yes ")],
        *[("binary", value, 0, False) for value in ("0", "0.0", "False", "no")],
        ("regression", 3, 3, 3.0),
        ("regression", 2.5, 2.5, 2.5),
    ],
)
def test_a_label_has_one_stored_form_and_one_code(task: Task, value: object, code: float, kept: object) -> None:
    codec = LabelCodec(task, CLASSES if task == "multiclass" else ())
    np.testing.assert_equal(encode(codec, value), code)
    assert codec.parse(value) == kept
    assert type(codec.parse(value)) is type(kept)


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        ("binary", [2, 0.5, -1, "ja", "", "2", [], {}, math.nan, 10**400], "true, false, 1 or 0"),
        (
            "multiclass",
            ["", "x" * (MAX_CLASS + 1), 1.5, "\ud800", [], math.inf, 1e300],
            "the name of a class: a text of",
        ),
        ("regression", [True, "1", math.nan, math.inf, [], 10**400], "a finite number"),
    ],
)
def test_what_is_no_label_is_refused_with_what_is_expected(task: Task, values: list[object], expected: str) -> None:
    for value in values:
        assert not is_accepted(LabelCodec(task), value)
        with pytest.raises(ValueError, match=expected):
            LabelCodec(task).parse(value)


@pytest.mark.parametrize(
    ("task", "labels", "codes"),
    [
        ("binary", ["true", "FALSE", "1", "0", "yes", "ja", None], [1, 0, 1, 0, 1, np.nan, np.nan]),
        ("binary", [1.0, 0.0, 2.0, float("nan")], [1, 0, np.nan, np.nan]),
        ("regression", ["2.5", "-1e3", "dear", "inf", None], [2.5, -1000, np.nan, np.nan, np.nan]),
        ("regression", [1.5, float("inf"), float("nan")], [1.5, np.nan, np.nan]),
        ("regression", [True, False], [np.nan, np.nan]),
    ],
)
def test_a_table_spells_numbers_and_truths_as_texts(task: Task, labels: list[Any], codes: list[float]) -> None:
    np.testing.assert_array_equal(LabelCodec(task).encode_column(pl.Series("late", labels)), codes)
    if isinstance(labels[0], str):
        named = pl.Series("late", labels, dtype=pl.Categorical)
        np.testing.assert_array_equal(LabelCodec(task).encode_column(named), codes)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["low", "high", None], ("high", "low")),
        ([3, 1, None], ("1", "3")),
        ([3.0, 1.0, float("nan")], ("1", "3")),
        ([Decimal(3), Decimal(1)], ("1", "3")),
        ([True, False], ("false", "true")),
    ],
)
def test_classes_are_named_alike_in_whatever_type_they_come(labels: list[Any], classes: tuple[str, ...]) -> None:
    assert fit_classes("multiclass", pl.Series("late", labels)) == classes


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("binary", [None, None], "target 'late' has no labels"),
        ("binary", [1, 1], "single class True; a binary model needs at least two"),
        ("multiclass", ["a", "a"], "single class 'a'"),
        ("multiclass", [1.5, 2.0], "has the label 1.5, but a multiclass model needs the name of a class"),
        ("binary", [0, 1, 2], "has the label 2, but a binary model needs true, false, 1 or 0"),
        ("binary", ["ja", "nein"], "has the label 'ja'"),
        ("binary", [[1], [0]], r"has the label \[1\], but a binary model needs true"),
        ("regression", ["dear"], "has the label 'dear', but a regression model needs a finite number"),
        ("regression", [True, False], "has the label True, but a regression model needs a finite number"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(task: Task, labels: list[Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_classes(task, pl.Series("late", labels))


def test_a_score_stands_for_a_label() -> None:
    assert LabelCodec("binary").decode(0.4, 0.4) is True
    assert LabelCodec("binary").decode(np.float64(0.39), 0.4) is False
    assert LabelCodec("multiclass", ("a", "b", "c")).decode([0.2, 0.5, 0.3], 0.5) == "b"
    assert LabelCodec("regression").decode(np.float64(2.5), 0.5) == 2.5
