"""The study: where never is 1 and hindsight 0, and what is counted."""

from datetime import timedelta

import numpy as np
import pytest

from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.policies import rolling_bounds
from tasks.backtest.simulate import Life, life_with
from tasks.backtest.study import COSTS, DEFAULT, Study, draws, standard_error
from tests.support.models import small_spec
from tests.tasks.backtest.matrices import ageing, matrix_of, random_losses

SPEC = small_spec("regression")


def study_of(matrix: LossMatrix) -> Study:
    return Study(matrix, SPEC)


@pytest.mark.parametrize("seed", range(3))
def test_never_has_a_regret_of_1_and_hindsight_of_0_and_nothing_less(seed: int) -> None:
    study = study_of(matrix_of(20, random_losses(seed), lateness=timedelta(days=1)))
    results = {one.name: one for one in study.results()}
    assert results["never"].regret == pytest.approx(1)
    assert results["hindsight"].regret == pytest.approx(0)
    assert all(one.regret is not None and one.regret >= -1e-9 for one in results.values())


def test_gain_is_a_share_of_what_a_promotion_every_window_gains() -> None:
    results = {one.name: one for one in study_of(matrix_of(30, ageing(0.05))).results()}
    assert (results["never"].gain_share, results["every window"].gain_share) == (0, 1)
    ours = results[DEFAULT]
    assert ours.gain_share is not None
    assert ours.gain_interval is not None
    assert 0.5 < ours.gain_interval[0] <= ours.gain_share <= ours.gain_interval[1] <= 1
    assert 0 < ours.promotions < 15
    assert ours.promotion_rate_after_promotion == 0


def test_thresholds_are_fitted_to_the_first_part_and_lived_by_in_the_later() -> None:
    """Models age fast at first and not at all later: what was fitted to the first part promotes in vain."""

    def loss(boundary: int, window: int) -> list[float]:
        return [1.0 + (0.5 * (window - boundary) if window < 20 else 0.02 * (window - boundary > 0))] * 7

    study = study_of(matrix_of(30, loss))
    later = study.later()
    assert later.matrix.judged.tolist() == study.matrix.judged.tolist()[study.early :]
    fitted, own = (one.policies()["CARA, threshold"](0.2) for one in (later, Study(later.matrix, SPEC)))
    assert later.past() == study.past()
    assert len(fitted.promotions) >= len(own.promotions)
    assert set(study.policies()["CARA, threshold"](0.2).promotions) >= set(range(3, 20, 2)), (
        "a loss tells from the second window on"
    )


def test_policies_that_promote_always_or_never_have_no_rank_among_random_timings() -> None:
    results = {one.name: one for one in study_of(matrix_of(12, ageing(0.05))).results()}
    assert results["never"].percentile is results["every window"].percentile is None
    assert results["every window"].promotion_rate_after_promotion == 1


def test_well_timed_promotions_beat_random_ones_of_the_same_count() -> None:
    def loss(boundary: int, window: int) -> list[float]:
        return [1.0 if (boundary >= 10) == (window >= 10) else 3.0] * 7  # one abrupt change, at window 10

    study = study_of(matrix_of(20, loss))
    result = study.judge("well timed", lambda cost: life_with([10]))
    assert result.percentile is not None
    assert result.percentile > 90
    assert result.delay == 0


def test_where_nothing_can_be_gained_shares_are_absent() -> None:
    result = study_of(matrix_of(8, lambda boundary, window: [1.0] * 7)).judge("never", lambda cost: Life((), 0))
    assert result.gain_share is result.regret is None


def test_expenses_are_losses_in_units_and_costs() -> None:
    study = study_of(matrix_of(6, ageing(0.5, noise=0)))
    spent = study.expenses(life_with([3]), 0.2)
    assert spent.tolist() == pytest.approx((study.losses(life_with([3])) / study.unit + [0, 0, 0.2, 0, 0]).tolist())


def test_bounds_come_from_windows_judged_by_models_trained_before_them() -> None:
    matrix = matrix_of(12, ageing(0.3, noise=0.01))
    bounds = rolling_bounds(matrix, SPEC, 8)
    diagonal = [matrix.rows[window].cells[0].signals["loss"] for window in range(5, 8)]
    assert 0.9 < max(diagonal) < bounds["loss"] < 1.3


def test_findings_are_counted_on_first_windows_and_on_stale_ones() -> None:
    rates = study_of(matrix_of(30, ageing(0.1), first=9)).finding_rates()
    assert set(rates) == {"drift", "loss", "calibration", "base_rate", "any"}
    assert rates["any"].first_windows == 21
    assert rates["any"].power == 1
    assert rates["any"].alarms_after_training is not None
    assert rates["any"].alarms_after_training < 0.3


def test_windows_are_drawn_with_their_neighbours() -> None:
    drawn = draws(10, seed=1)
    assert all(places.shape == (10,) for places in drawn)
    assert np.mean([np.mean(np.diff(places[:4])) for places in drawn]) == 1
    assert standard_error(np.ones(10)) == 0
    assert np.isinf(standard_error(np.ones(1)))
    assert COSTS[0] < SPEC.policy.cost < COSTS[-1]
