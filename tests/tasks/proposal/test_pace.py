"""What can happen at the pace of a table is told of a spec, and a spec that suits a pace is told nothing is impossible."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from perennial.spec import ModelSpec
from tasks.data.times import times_of_rows
from tasks.proposal.pace import LEAST_ROWS, LENGTHS, Pace, fit_to_pace, format_rate, pace_facts
from tests.support.models import small_spec

START = date(1958, 3, 4)


def pace(per_day: float, days: float) -> Pace:
    return Pace.of(times_of_rows(int(per_day * days) + 1, START, timedelta(days=1) / per_day))


def spec(**sections: object) -> ModelSpec:
    raw = small_spec().model_dump(exclude={"gate", "window", "split", "signals"})
    return ModelSpec.model_validate({**raw, **sections})


def never(spec: ModelSpec, pace: Pace) -> dict[str, str]:
    return {fact.name: fact.text for fact in pace_facts(spec, pace) if not fact.possible}


def test_daily_rows_with_the_defaults_can_neither_alarm_nor_promote_and_the_fix_is_told() -> None:
    found = never(spec(), pace(1, 2_000))
    assert set(found) == {"windows", "bounds", "gate"}
    assert "7 rows in a typical one; window.min_rows = 200 asks for more" in found["windows"]
    assert 'set window.length = "' in found["windows"]
    assert "guardrails alone decide" in found["gate"]


@pytest.mark.parametrize(
    ("per_day", "days"),
    [(1 / 7, 9_000), (0.5, 1_000), (1, 400), (1, 9_000), (3, 200), (24, 40), (24, 1_000), (48, 200), (300, 40), (5_000, 40)],
)
def test_a_spec_that_was_fitted_to_a_pace_can_do_everything_at_it(per_day: float, days: float) -> None:
    given = pace(per_day, days)
    fitted = fit_to_pace(given)
    sections = {"gate": fitted.gate, "window": fitted.window, "split": fitted.split, "signals": fitted.signals}
    assert never(spec(**sections), given) == {}
    assert fitted.window.length in LENGTHS


def test_a_busy_table_of_a_year_has_weeks_as_they_are_usual() -> None:
    fitted = fit_to_pace(pace(500, 365))
    assert (fitted.window.length, fitted.window.min_rows, fitted.gate.min_rows) == (timedelta(days=7), 200, 200)
    assert fitted.window.lateness == timedelta(days=1)


def test_daily_rows_have_windows_of_enough_rows() -> None:
    fitted = fit_to_pace(pace(1, 3_000))
    assert pace(1, 3_000).typical(fitted.window.length) >= LEAST_ROWS
    assert fitted.window.min_rows <= pace(1, 3_000).typical(fitted.window.length)


def test_whole_windows_are_counted_as_the_monitor_lays_them() -> None:
    monday = datetime(1969, 12, 29, tzinfo=UTC)
    times = pl.Series([monday + hours * timedelta(hours=6) for hours in range(4 * 7 * 3 + 2)], dtype=pl.Datetime("us", "UTC"))
    assert Pace.of(times).counts(timedelta(days=7)) == [28, 28, 28], "the fourth has hardly begun"
    assert Pace.of(times.slice(14)).counts(timedelta(days=7)) == [28, 28], "and of the first a half is missing"


def test_a_table_shorter_than_a_window_closes_none() -> None:
    found = never(spec(), pace(1_000, 3))
    assert "a replay of it closes none" in found["closing"]
    assert "nothing is left to learn from" in found["test"]


def test_no_row_and_one_moment_are_no_pace() -> None:
    assert list(pace_facts(spec(), Pace.of(pl.Series([], dtype=pl.Datetime("us", "UTC"))))) == []
    one = Pace.of(pl.Series([datetime(2000, 1, 1, tzinfo=UTC)] * 5))
    assert "test" in never(spec(), one)


@pytest.mark.parametrize(("rate", "words"), [(1000, "1,000 rows a day"), (1, "1 row a day"), (1 / 7, "a row in 7 days")])
def test_a_rate_in_words(rate: float, words: str) -> None:
    assert format_rate(rate) == words


@pytest.mark.parametrize("years", [(1902,), (1970,), (1902, 1903), (1970, 2204), (1902, 2204), (1902, 1903, 1970, 2204)])
def test_a_clock_that_was_not_set_makes_no_history_of_decades(years: tuple[int, ...]) -> None:
    whole = pace(72, 90)
    strays = pl.Series([datetime(year, 5, 1, tzinfo=UTC) for year in years])
    times = pl.Series(whole.times).dt.replace_time_zone("UTC")
    with_strays = Pace.of(pl.concat([strays.cast(times.dtype), times]))
    assert fit_to_pace(with_strays) == fit_to_pace(whole)
    assert with_strays.without_strays.rows == whole.rows == whole.without_strays.rows
    (told,) = (fact.text for fact in pace_facts(spec(), with_strays) if fact.name == "stray")
    assert told.startswith(f"{len(years)} of them")
    assert f"{START:%Y-%m-%d}" in told


@pytest.mark.parametrize(("every", "least"), [("1mo", 28), ("1q", 91), ("1y", 364), ("1w", 7)])
def test_rows_that_bear_the_first_day_of_their_period_have_windows_no_shorter_than_it(every: str, least: int) -> None:
    starts = pl.datetime_range(datetime(1990, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), every, eager=True)
    fitted = fit_to_pace(Pace.of(pl.concat([starts] * 300)))
    assert fitted.window.length >= timedelta(days=least)


def test_a_season_of_daily_rows_has_windows_as_daily_rows_have() -> None:
    days = pl.datetime_range(datetime(1990, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), "1d", eager=True)
    open_ = days.filter(days.dt.month().is_in([12, 1, 2, 3]))
    assert fit_to_pace(Pace.of(pl.concat([open_] * 100))).window.length == timedelta(days=7)
