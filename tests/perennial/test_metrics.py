"""Metrics agree with scikit-learn, and say nothing where there is nothing to say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from perennial.arrays import Floats
from perennial.errors import DataError
from perennial.metrics import Metrics, auc, higher_is_better, row_losses, score


def binary(rows: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Labels of both classes, predictions with ties, weights."""
    chance = np.random.default_rng(seed)
    labels = np.concatenate([[0.0, 1.0], chance.integers(0, 2, rows).astype(float)])
    return labels, chance.integers(1, 20, rows + 2) / 20, chance.random(rows + 2) + 0.1


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_binary_metrics_agree_with_scikit_learn(rows: int, seed: int) -> None:
    labels, predictions, weights = binary(rows, seed)
    for given_weights in (None, weights):
        values = score("binary", labels, predictions, given_weights).values
        expected = {
            "log_loss": reference.log_loss(labels, predictions, sample_weight=given_weights),
            "brier": reference.brier_score_loss(labels, predictions, sample_weight=given_weights),
            "auc": reference.roc_auc_score(labels, predictions, sample_weight=given_weights),
        }
        assert values == pytest.approx(expected, rel=1e-12)


def test_multiclass_metrics_agree_with_scikit_learn() -> None:
    chance = np.random.default_rng(1)
    labels, predictions, weights = chance.integers(0, 3, 50), chance.dirichlet([1, 1, 1], 50), chance.random(50)
    values = score("multiclass", labels.astype(float), predictions, weights).values
    assert values["log_loss"] == pytest.approx(reference.log_loss(labels, predictions, sample_weight=weights))
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions.argmax(1), sample_weight=weights))


def test_regression_metrics_agree_with_scikit_learn() -> None:
    chance = np.random.default_rng(1)
    labels, predictions, weights = chance.normal(size=50), chance.normal(size=50), chance.random(50)
    values = score("regression", labels, predictions, weights).values
    assert values["rmse"] == pytest.approx(reference.root_mean_squared_error(labels, predictions, sample_weight=weights))
    assert values["mae"] == pytest.approx(reference.mean_absolute_error(labels, predictions, sample_weight=weights))


def test_a_single_class_has_no_auc() -> None:
    metrics = score("binary", np.ones(3), np.full(3, 0.5))
    assert set(metrics.values) == {"log_loss", "brier"}
    assert auc(np.zeros(3), np.zeros(3)) is None


def test_rows_without_a_label_are_left_out() -> None:
    labels, predictions = np.array([1.0, np.nan, 0.0]), np.array([0.8, 0.1, 0.3])
    assert score("binary", labels, predictions) == score("binary", labels[[0, 2]], predictions[[0, 2]])
    assert score("binary", np.full(2, np.nan), predictions[:2]) == Metrics(rows=0, values={})
    assert score("multiclass", np.array([]), np.empty((0, 3))).rows == 0


def test_a_certain_error_is_dear_and_finite() -> None:
    assert score("binary", np.array([1.0]), np.array([0.0])).values["log_loss"] == pytest.approx(34.5, abs=0.1)


def test_the_mean_of_row_losses_is_the_metric() -> None:
    labels, predictions, _ = binary(30, 3)
    values = score("binary", labels, predictions).values
    for metric in ("log_loss", "brier"):
        assert row_losses("binary", labels, predictions, metric).mean() == pytest.approx(values[metric])
    errors = score("regression", labels, predictions).values
    assert np.sqrt(row_losses("regression", labels, predictions, "rmse").mean()) == pytest.approx(errors["rmse"])
    assert row_losses("regression", labels, predictions, "mae").mean() == pytest.approx(errors["mae"])


def test_a_row_without_a_label_has_no_loss() -> None:
    labels = np.array([np.nan, 1.0])
    assert np.isnan(row_losses("binary", labels, np.array([0.5, 0.5]), "log_loss")).tolist() == [True, False]
    assert np.isnan(row_losses("multiclass", labels, np.full((2, 2), 0.5), "log_loss")).tolist() == [True, False]
    assert np.isnan(row_losses("regression", labels, np.array([0.5, 0.5]), "rmse")).tolist() == [True, False]


def test_auc_has_no_loss_per_row() -> None:
    with pytest.raises(DataError, match="auc is not a mean of losses of single rows"):
        row_losses("binary", np.ones(1), np.ones(1), "auc")


def test_arrays_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels \(2,\), predictions \(3,\)"):
        score("binary", np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="do not go together for a multiclass model"):
        score("multiclass", np.ones(2), np.ones(2))


def test_which_way_is_better() -> None:
    assert {metric: higher_is_better(metric) for metric in ("auc", "accuracy", "log_loss", "brier", "rmse", "mae")} == {
        "auc": True,
        "accuracy": True,
        "log_loss": False,
        "brier": False,
        "rmse": False,
        "mae": False,
    }
