"""The training report: what it says of each task, and what its baseline is."""

import numpy as np
import pytest

from deployments.summary import format_rows
from perennial.metrics import score
from perennial.spec import Task
from tasks.reporting.training_report import base_rate, constant_predictions

LABELS: dict[Task, list[float]] = {"binary": [0, 1, 1, 1], "multiclass": [0, 2, 2, 1], "regression": [1.0, 2.0, 3.0, 6.0]}


def test_a_binary_target_is_told_by_its_share_of_true() -> None:
    assert base_rate("binary", (), np.array(LABELS["binary"])) == {"false": 0.25, "true": 0.75}


def test_classes_are_told_by_their_shares_and_one_without_rows_is_0() -> None:
    rate = base_rate("multiclass", ("a", "b", "c", "d"), np.array(LABELS["multiclass"]))
    assert rate == {"a": 0.25, "b": 0.25, "c": 0.5, "d": 0.0}


def test_a_regression_target_is_told_by_mean_and_deviation() -> None:
    rate = base_rate("regression", (), np.array(LABELS["regression"]))
    assert rate == {"mean": 3.0, "deviation": pytest.approx(np.std(LABELS["regression"]))}


@pytest.mark.parametrize(("task", "shape"), [("binary", (2,)), ("multiclass", (2, 4)), ("regression", (2,))])
def test_the_baseline_says_of_every_row_what_the_training_labels_say_together(task: Task, shape: tuple[int, ...]) -> None:
    constant = constant_predictions(task, np.array(LABELS[task]), np.zeros(shape))
    assert constant.shape == shape
    assert np.array_equal(constant[0], constant[1])
    expected = {"binary": 0.75, "multiclass": [0.25, 0.25, 0.5, 0.0], "regression": 3.0}[task]
    assert constant[0].tolist() == expected


def test_the_baseline_of_labels_that_are_as_in_training_is_their_entropy() -> None:
    labels = np.array(LABELS["binary"])
    loss = score("binary", labels, constant_predictions("binary", labels, np.zeros(4))).values["log_loss"]
    assert loss == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))


def test_a_table_leaves_out_what_is_empty_and_aligns_what_goes_on() -> None:
    assert format_rows({"rows": "3", "quarantined": "", "kinds": "1 numeric: x\n1 categorical: c"}) == (
        "rows   3\nkinds  1 numeric: x\n       1 categorical: c"
    )
