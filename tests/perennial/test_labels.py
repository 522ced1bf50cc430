"""Labels become numbers and scores become answers, for each of the three tasks."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from perennial.errors import TrainingError
from perennial.labels import encode_labels, fit_classes, label_of
from perennial.spec import Task


@pytest.mark.parametrize(
    ("task", "labels", "classes", "codes"),
    [
        ("binary", [True, False, None], (), [1, 0, np.nan]),
        ("binary", [1, 0, None], (), [1, 0, np.nan]),
        ("binary", [1.0, 0.0, float("nan")], (), [1, 0, np.nan]),
        ("binary", ["true", "False", None], (), [1, 0, np.nan]),
        ("multiclass", ["low", "high", None], ("high", "low"), [1, 0, np.nan]),
        ("multiclass", [3, 1, None], ("1", "3"), [1, 0, np.nan]),
        ("multiclass", [3.0, 1.0, float("nan")], ("1", "3"), [1, 0, np.nan]),
        ("multiclass", [True, False], ("false", "true"), [1, 0]),
        ("regression", [1, 2, None], (), [1, 2, np.nan]),
        ("regression", [1.5, float("inf"), float("nan")], (), [1.5, np.nan, np.nan]),
    ],
)
def test_labels_are_coded(task: Task, labels: list[Any], classes: tuple[str, ...], codes: list[float]) -> None:
    series = pl.Series("late", labels)
    known = series.filter(pl.Series(~np.isnan(encode_labels(task, classes, series))))
    assert fit_classes(task, known) == classes
    np.testing.assert_array_equal(encode_labels(task, classes, series), codes)


def test_a_class_the_model_does_not_know_has_no_code() -> None:
    assert np.isnan(encode_labels("multiclass", ("a", "b"), pl.Series(["c"]))).all()
    assert np.isnan(encode_labels("binary", (), pl.Series([2]))).all()


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("binary", [None, None], "target 'late' has no labels"),
        ("binary", [1, 1], "single class 1; a binary model needs at least two"),
        ("multiclass", ["a", "a"], "single class 'a'"),
        ("binary", [0, 1, 2], "has the label 2, but a binary model needs 0 or 1"),
        ("binary", ["yes", "no"], "has the label 'yes'"),
        ("regression", ["dear"], "has the label 'dear', but a regression model needs a finite number"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(task: Task, labels: list[Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_classes(task, pl.Series("late", labels))


def test_a_score_stands_for_an_answer() -> None:
    assert label_of("binary", (), 0.4, 0.4) is True
    assert label_of("binary", (), 0.4, np.float64(0.39)) is False
    assert label_of("multiclass", ("a", "b", "c"), 0.5, [0.2, 0.5, 0.3]) == "b"
    assert label_of("regression", (), 0.5, np.float64(2.5)) == 2.5
