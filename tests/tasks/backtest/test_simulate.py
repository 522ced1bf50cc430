"""Lives in a matrix: what serves when, what hindsight knows, and that the account decides as the monitor's does."""

from dataclasses import replace
from datetime import timedelta
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.avoidable_loss import Account, ExcessLoss, excess_loss
from tasks.backtest.hindsight import hindsight
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.policies import calendar
from tasks.backtest.simulate import Life, Moment, MonitoredLife, life_with, simulate
from tests.support.models import small_spec
from tests.tasks.backtest.matrices import ROWS, WEEK, ageing, matrix_of, random_losses

LATE = timedelta(hours=36)
SPEC = small_spec("regression")

matrices = st.builds(
    lambda seed, count, late: matrix_of(count, random_losses(seed), lateness=LATE if late else timedelta()),
    st.integers(0, 10_000),
    st.integers(4, 8),
    st.booleans(),
)
costs = st.sampled_from((0.0, 0.02, 0.2, 1.0))


def total(matrix: LossMatrix, life: Life, cost: float) -> float:
    return float(matrix.losses_of(life.promotions).sum()) + cost * len(life.promotions)


@given(matrices, costs)
@settings(max_examples=40, deadline=None)
def test_hindsight_is_the_best_of_all_lives(matrix: LossMatrix, cost: float) -> None:
    boundaries = matrix.boundaries
    lives = [life_with(chosen) for count in range(len(boundaries) + 1) for chosen in combinations(boundaries, count)]
    best = min(total(matrix, life, cost) for life in lives)
    assert total(matrix, hindsight(matrix, cost), cost) == pytest.approx(best)


@given(matrices, costs, st.sets(st.integers(2, 7)))
@settings(max_examples=40, deadline=None)
def test_no_life_costs_less_than_hindsight(matrix: LossMatrix, cost: float, chosen: set[int]) -> None:
    life = simulate(matrix, lambda moment: moment.boundary in chosen)
    assert life.promotions == tuple(sorted(chosen & set(matrix.boundaries)))
    assert total(matrix, hindsight(matrix, cost), cost) <= total(matrix, life, cost) + 1e-9


def test_a_new_version_serves_from_when_its_window_is_closed() -> None:
    matrix = matrix_of(4, lambda boundary, window: [10.0 * boundary + day for day in range(7)], lateness=LATE)
    # Of the first window after the promotion two days of seven have passed: 36 hours, in whole days.
    handed_over = (0 + 1 + 2 + 3 + 4 + 5 + 6) / 7 + (2 * 10 + 5 * 20) / 7
    assert matrix.losses_of([2]) == pytest.approx([13.0, handed_over, 23.0])


def test_windows_that_cannot_be_judged_count_for_nothing() -> None:
    matrix = matrix_of(4, ageing(0.1))
    row = matrix.rows[1]
    emptied = LossMatrix(
        matrix.windows,
        {**matrix.rows, 1: row.model_copy(update={"cells": (row.cells[0], None, row.cells[2])})},
        matrix.counts,
        matrix.metric,
        matrix.first,
    )
    assert emptied.judged.tolist() == [1, 3]
    assert hindsight(emptied, 0.0).promotions


def test_labels_that_come_later_than_windows_close_make_a_lag() -> None:
    matrix = matrix_of(5, ageing(0.1), ahead=timedelta(days=-8))
    assert matrix.lag == 2
    assert Moment(matrix, 4, 1).labelled == 1
    assert matrix_of(5, ageing(0.1), ahead=timedelta(days=1)).lag == 0


def test_rmse_is_the_root_of_the_rows_of_both_models() -> None:
    matrix = matrix_of(3, lambda boundary, window: [4.0 * (boundary + 1)] * 7, lateness=LATE, metric="rmse")
    assert matrix.losses_of([2]) == pytest.approx([8**0.5, (2 / 7 * 8 + 5 / 7 * 12) ** 0.5])


def life_of(matrix: LossMatrix, **policy: object) -> Life:
    changed = SPEC.policy.model_copy(update=policy)
    return MonitoredLife(matrix, SPEC.model_copy(update={"policy": changed}), lambda boundary: {"drift": 1e9}).run()


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=12), timedelta(days=4)])
def test_the_account_is_the_monitors_on_the_same_numbers(ahead: timedelta) -> None:
    """The books of a life, written once more by hand from block sums: promotions come at the same boundaries."""
    matrix = matrix_of(24, ageing(0.04, noise=0.05, seed=3), ahead=ahead)
    every, first_window = 3, 1 if ahead > WEEK / 2 else 0
    life = life_of(matrix, train_on=("every",), every=every)
    champion, account, trained, promoted = 1, Account(), [1], []
    for boundary in range(2, 24):
        window = boundary - 1
        known = [one for one in trained if one > champion and one + first_window <= window]
        if known:
            sums = [np.array(matrix.rows[one].cells[window - one].sums) for one in (champion, known[-1])]
            entry = excess_loss(sums[0], sums[1], "log_loss")
            assert entry is not None
            account = account.add(entry)
        if account.promotion_due(SPEC.policy.cost, SPEC.policy.z):
            champion, account = boundary, Account()
            trained.append(boundary)
            promoted.append(boundary)
        elif round(boundary - trained[-1] - ahead / WEEK) >= min(every, max(1, trained[-1] - champion)):
            trained.append(boundary)
    assert life.promotions == tuple(promoted)
    assert 2 < len(promoted) < 12
    assert life.trainings == len(trained) - 1


def test_an_account_of_probes_trains_what_it_promotes_and_nothing_else() -> None:
    def probed(boundary: int, window: int) -> ExcessLoss | None:
        return ExcessLoss(excess=0.03 * (window - boundary), error=0.01) if window > boundary else None

    matrix = replace(matrix_of(24, ageing(0.04)), probes=probed)
    life = life_of(matrix, evidence="probe", train_on=("age",))
    champion, account, promoted = 1, Account(), []
    for boundary in range(2, 24):
        if (entry := probed(champion, boundary - 1)) is not None:
            account = account.add(entry)
        if account.promotion_due(SPEC.policy.cost, SPEC.policy.z):
            champion, account = boundary, Account()
            promoted.append(boundary)
    assert life.promotions == tuple(promoted)
    assert life.trainings == len(promoted)
    assert len(promoted) > 2
    without_rows = matrix_of(24, ageing(0.04))
    assert life_of(without_rows, evidence="probe", train_on=("age",)) == Life((), 0)


def test_without_decay_nothing_is_promoted() -> None:
    life = life_of(matrix_of(40, ageing(0.0, noise=0.02)), train_on=("every",), every=1)
    assert (life.promotions, life.trainings) == ((), 38)


def test_findings_train_a_challenger() -> None:
    matrix, policy = matrix_of(20, ageing(0.05)), {"train_on": ("drift",)}
    assert life_of(matrix, **policy).trainings == 0
    spec = SPEC.model_copy(update={"policy": SPEC.policy.model_copy(update=policy)})
    life = MonitoredLife(matrix, spec, lambda boundary: {"drift": 0.12}).run()
    assert life.trainings > len(life.promotions) > 0


def test_the_former_policy_promotes_what_it_trains() -> None:
    life = life_of(matrix_of(9, ageing(0.1)), train_on=("every",), every=3, promote="always")
    assert (life.promotions, life.trainings) == (calendar(matrix_of(9, ageing(0.1)), 3).promotions, 2)


def test_a_calendar_promotes_by_age() -> None:
    assert calendar(matrix_of(9, ageing(0.1)), 3).promotions == (4, 7)
    assert matrix_of(3, ageing(0.1)).counts[0] == ROWS
