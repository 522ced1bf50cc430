"""Avoidable loss: which of two models lost more on the same rows, how sure that is, and when it pays a promotion."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.avoidable_loss import MIN_BLOCKS, Account, ExcessLoss, block_sums, day_blocks, excess_loss
from perennial.arrays import Floats

METRICS = ("log_loss", "rmse")
SUMS = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=2, max_size=14).map(np.array)


def hourly(days: float, since: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> np.ndarray:
    end = since + timedelta(days=days) - timedelta(hours=1)
    return pl.datetime_range(since, end, "1h", time_unit="us", eager=True).to_numpy()


def account(*excesses: float, error: float = 0.01) -> Account:
    return Account(entries=tuple(ExcessLoss(excess=excess, error=error) for excess in excesses))


def test_log_loss_exceeds_by_the_share_of_the_challengers_with_the_blocks_error() -> None:
    champion, challenger = np.array([6.0, 4.0, 5.0]), np.array([4.0, 4.0, 4.0])
    found = excess_loss(champion, challenger, "log_loss")
    assert found is not None
    assert found.excess == pytest.approx(15 / 12 - 1)
    assert found.error == pytest.approx(1.0 * math.sqrt(3) / 12)  # the differences 2, 0, 1 have deviation 1


def test_rmse_exceeds_by_the_ratio_of_the_roots() -> None:
    found = excess_loss(np.array([6.0, 4.0, 5.0]), np.array([4.0, 4.0, 4.0]), "rmse")
    assert found is not None
    assert found.excess == pytest.approx(math.sqrt(15 / 12) - 1)
    assert found.error == pytest.approx(1.0 * math.sqrt(3) / 24)


@pytest.mark.parametrize(("champion", "challenger"), [([1.0], [1.0]), ([0.0, 0.0], [0.0, 0.0]), ([], [])])
def test_nothing_is_compared_where_nothing_was_lost_or_a_single_block_is(champion: list[float], challenger: list[float]) -> None:
    assert excess_loss(np.array(champion), np.array(challenger), "log_loss") is None


@given(SUMS, st.sampled_from(METRICS))
def test_who_swaps_the_models_turns_the_account_round(sums: Floats, metric: str) -> None:
    one, other = excess_loss(sums[:, 0], sums[:, 1], metric), excess_loss(sums[:, 1], sums[:, 0], metric)
    assert one is not None
    assert other is not None
    assert (1 + one.excess) * (1 + other.excess) == pytest.approx(1)
    assert (one.excess > 0) == (sums[:, 0].sum() > sums[:, 1].sum())


@given(SUMS, st.sampled_from(METRICS), st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_matter(sums: Floats, metric: str, unit: float) -> None:
    one, scaled = (excess_loss(factor * sums[:, 0], factor * sums[:, 1], metric) for factor in (1.0, unit))
    assert one is not None
    assert scaled is not None
    assert (scaled.excess, scaled.error) == (pytest.approx(one.excess, abs=1e-9), pytest.approx(one.error, abs=1e-9))


@given(SUMS, st.sampled_from(METRICS))
def test_a_model_scored_twice_owes_nothing(sums: Floats, metric: str) -> None:
    found = excess_loss(sums[:, 0], sums[:, 0], metric)
    assert found == ExcessLoss(excess=0, error=0)
    assert not account(*[0.0] * 20, error=0).promotion_due(cost=0.2, z=1)


@pytest.mark.parametrize("metric", METRICS)
def test_the_error_is_how_much_the_excess_scatters(metric: str) -> None:
    chance = np.random.default_rng(0)
    found = [excess_loss(*chance.gamma(20, [[1.1], [1.0]], (2, 28)), metric) for _ in range(1_000)]  # type: ignore[arg-type]
    excesses, errors = zip(*((one.excess, one.error) for one in found if one), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(excesses), rel=0.1)


def test_rows_of_a_day_are_a_block_and_of_fewer_days_an_equal_stretch() -> None:
    assert block_sums(np.ones(9 * 24), day_blocks(hourly(9))).tolist() == [24] * 9
    assert block_sums(np.ones(70), day_blocks(hourly(70 / 24))).tolist() == [10] * MIN_BLOCKS
    assert day_blocks(hourly(7.5, datetime(2024, 1, 1, 12, tzinfo=UTC))).max() == 7, "a block ends at midnight"


@given(st.integers(0, 400), st.floats(0.05, 20))
def test_no_row_is_lost_between_the_blocks(rows: int, days: float) -> None:
    times = np.datetime64("2024-01-01") + np.sort(np.linspace(0, days * 86_400, rows)).astype("timedelta64[s]")
    losses = np.arange(rows, dtype=np.float64)
    sums = block_sums(losses, day_blocks(times))
    assert sums.sum() == pytest.approx(losses.sum())
    assert len(sums) >= min(rows, MIN_BLOCKS)


@pytest.mark.parametrize(
    ("excesses", "error", "due"),
    [
        ((), 0.0, False),
        ((0.1,), 0.01, True),  # 0.1, and 0.1 more expected of the next window
        ((0.09,), 0.01, False),
        ((0.2, 0.2, -0.25), 0.01, True),  # 0.15 and a mean of 0.05
        ((0.1, 0.1, 0.1, -0.1, -0.1, -0.1), 0.01, False),
        ((0.3, -0.1, -0.1), 0.01, False),  # 0.1 and a mean of 0.033
        ((0.05,) * 4, 0.2, False),  # 0.2, but its error is 0.4
        ((0.05,) * 4, 0.1, True),  # its error is 0.2, as large as itself
        ((-0.5,), 0.01, False),
        ((-0.1, 0.4, 0.1, -0.3), 0.01, False),  # recent gains do not pay what was lost before
    ],
)
def test_a_promotion_is_due_at_the_cost_and_beyond_the_error(excesses: tuple[float, ...], error: float, due: bool) -> None:
    assert account(*excesses, error=error).promotion_due(cost=0.2, z=1) is due


@given(st.lists(st.floats(-1, 1), max_size=12), st.floats(0, 0.5), st.floats(0.01, 2), st.floats(0, 3))
def test_a_dearer_promotion_and_a_stricter_error_are_due_no_sooner(
    excesses: list[float], error: float, cost: float, z: float
) -> None:
    found = account(*excesses, error=error)
    if found.promotion_due(2 * cost, z) or found.promotion_due(cost, z + 1):
        assert found.promotion_due(cost, z) or found.avoidable < 0


@pytest.mark.parametrize(
    ("excesses", "error", "chance"),
    [((), 0.0, 0.5), ((0.0,), 0.1, 0.5), ((0.1,), 0.0, 0.0), ((-0.1,), 0.0, 1.0), ((0.12816,), 0.1, 0.1), ((-0.5,), 0.1, 1.0)],
)
def test_the_chance_that_the_champion_is_better(excesses: tuple[float, ...], error: float, chance: float) -> None:
    assert account(*excesses, error=error).champion_better == pytest.approx(chance, abs=1e-4)


def test_an_account_grows_by_one_window_at_a_time_and_comes_back_from_json() -> None:
    one = account(0.1)
    two = one.add(ExcessLoss(excess=0.2, error=0.02))
    assert (len(one.entries), two.avoidable, two.error) == (1, pytest.approx(0.3), pytest.approx(math.hypot(0.01, 0.02)))
    assert Account.model_validate_json(two.model_dump_json()) == two
