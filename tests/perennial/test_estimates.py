"""Estimates: the loss that calibrated confidence expects is the one that comes while equal rows have equal truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perennial.arrays import Floats
from perennial.estimates import Recalibration, expected_loss, fit_recalibration, moved_to_base_rate
from perennial.metrics import score
from perennial.spec import Task

CHANCES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


def logistic(odds: Floats) -> Floats:
    return 1 / (1 + np.exp(-odds))


def overconfident(rows: int, seed: int) -> tuple[Floats, Floats]:
    """Labels, and scores whose log-odds are twice what they should be, and 0.5 too high."""
    chance = np.random.default_rng(seed)
    odds = chance.normal(size=rows)
    return (chance.random(rows) < logistic(odds)).astype(float), logistic(2 * odds + 0.5)


def test_a_calibration_undoes_overconfidence() -> None:
    found = fit_recalibration("binary", [overconfident(10_000, seed) for seed in (1, 2)])
    assert found is not None
    assert (found.slope, found.intercept) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.25, abs=0.04))


def test_the_expected_loss_is_the_loss_of_rows_to_come() -> None:
    found = fit_recalibration("binary", [overconfident(20_000, 1)])
    assert found is not None
    labels, scores = overconfident(20_000, 9)
    loss = score("binary", labels, found.apply(scores)).values
    assert expected_loss("log_loss", found.apply(scores)) == pytest.approx(loss["log_loss"], abs=0.01)
    assert expected_loss("brier", found.apply(scores)) == pytest.approx(loss["brier"], abs=0.01)
    uncalibrated = expected_loss("log_loss", scores)
    assert uncalibrated is not None
    assert uncalibrated < loss["log_loss"] - 0.05, "overconfident scores promise too much"


def test_a_temperature_calibrates_more_than_two_classes() -> None:
    chance = np.random.default_rng(0)
    odds = chance.normal(size=(20_000, 3))
    shares = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < chance.random((20_000, 1))).sum(axis=1).astype(float)
    sharp = np.exp(2 * odds) / np.exp(2 * odds).sum(axis=1, keepdims=True)
    found = fit_recalibration("multiclass", [(labels, sharp)])
    assert found is not None
    assert (found.slope, found.intercept) == (pytest.approx(0.5, abs=0.03), 0.0)
    np.testing.assert_allclose(found.apply(sharp).sum(axis=1), 1.0)
    loss = score("multiclass", labels, found.apply(sharp)).values["log_loss"]
    assert expected_loss("log_loss", found.apply(sharp)) == pytest.approx(loss, abs=0.01)


@pytest.mark.parametrize(
    ("task", "labels", "scores"),
    [
        ("regression", np.arange(200.0), np.arange(200.0)),
        ("binary", np.zeros(500), np.full(500, 0.1)),
        ("binary", np.array([0.0, 1.0] * 49), np.full(98, 0.5)),
        ("binary", np.full(500, np.nan), np.full(500, 0.1)),
        ("multiclass", np.full(500, 3.0), np.full((500, 3), 1 / 3)),
    ],
)
def test_where_little_is_known_there_is_no_calibration(task: Task, labels: Floats, scores: Floats) -> None:
    assert fit_recalibration(task, [(labels, scores)]) is None
    assert fit_recalibration(task, []) is None


def test_a_metric_of_which_confidence_knows_nothing_is_not_estimated() -> None:
    assert expected_loss("rmse", np.array([1.0])) is None
    assert expected_loss("log_loss", np.empty(0)) is None


@given(CHANCES)
def test_confidence_expects_most_of_a_coin_and_nothing_of_certainty(scores: Floats) -> None:
    expected = expected_loss("log_loss", scores)
    assert expected is not None
    assert 0 <= expected <= np.log(2) + 1e-9
    assert expected_loss("log_loss", np.full(3, 0.5)) == pytest.approx(np.log(2))
    assert expected_loss("log_loss", np.array([0.0, 1.0])) == pytest.approx(0, abs=1e-12)


@given(CHANCES, st.floats(0.1, 5), st.floats(-5, 5))
def test_calibrated_scores_are_probabilities_in_the_same_order(scores: Floats, slope: float, intercept: float) -> None:
    found = Recalibration(slope=slope, intercept=intercept).apply(scores)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@given(CHANCES, st.data())
def test_moved_scores_have_the_base_rate_of_the_labels(scores: Floats, data: st.DataObject) -> None:
    labels = data.draw(arrays(np.float64, scores.shape, elements=st.sampled_from([0.0, 1.0])))
    if 0 < labels.mean() < 1 and ((scores > 1e-6) & (scores < 1 - 1e-6)).all():
        assert moved_to_base_rate("binary", labels, scores).mean() == pytest.approx(labels.mean(), abs=1e-6)
    assert moved_to_base_rate("regression", labels, scores).mean() == pytest.approx(labels.mean())


def test_a_prior_shift_is_all_but_undone_by_moving_the_scores() -> None:
    chance = np.random.default_rng(4)
    x = np.concatenate([chance.normal(1, 1, 6_000), chance.normal(-1, 1, 2_000)])  # the model learnt of as many each
    labels, scores = np.repeat([1.0, 0.0], [6_000, 2_000]), logistic(2 * x)
    moved, ideal = moved_to_base_rate("binary", labels, scores), logistic(2 * x + np.log(3))
    before, after, best = (score("binary", labels, one).values["log_loss"] for one in (scores, moved, ideal))
    assert before - best > 0.03
    assert after == pytest.approx(best, abs=0.005)
