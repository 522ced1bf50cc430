"""Windows tile the calendar, and the watermark closes them in order."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.window import MOST_EMPTY, ORIGIN, Window, due_windows, window_at
from perennial.spec import WindowSpec
from perennial.value_types import OLDEST

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
LENGTHS = st.timedeltas(timedelta(minutes=1), timedelta(days=60))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(MOMENTS, LENGTHS)
def test_a_window_holds_its_moment_and_is_aligned(moment: datetime, length: timedelta) -> None:
    window = window_at(moment, length)
    assert window.start <= moment < window.end
    assert (window.start - ORIGIN) % length == timedelta()
    assert window_at(window.end, length).start == window.end


def test_weeks_start_on_mondays() -> None:
    assert window_at(at("2013-03-01"), timedelta(days=7)) == Window(start=at("2013-02-25"), end=at("2013-03-04"))


def test_weeks_before_1970_start_on_mondays_too() -> None:
    assert window_at(at("1949-03-02"), timedelta(days=7)) == Window(start=at("1949-02-28"), end=at("1949-03-07"))


def test_a_misread_time_counts_as_the_oldest_one() -> None:
    assert window_at(datetime(1, 1, 1, tzinfo=UTC), timedelta(days=7)).start == OLDEST


def test_dates_of_a_window() -> None:
    assert Window(start=at("2013-03-01T12:00"), end=at("2013-03-03")).dates() == (date(2013, 3, 1), date(2013, 3, 2))


@given(MOMENTS, st.timedeltas(timedelta(), timedelta(days=100)), st.timedeltas(timedelta(), timedelta(days=3)))
def test_exactly_the_windows_passed_by_the_lateness_are_due(since: datetime, passed: timedelta, lateness: timedelta) -> None:
    spec, watermark = WindowSpec(length=timedelta(days=2), lateness=lateness), since + passed
    due = list(due_windows(spec, since, watermark, [since.date()]))
    following = due[-1].end if due else window_at(since, spec.length).start
    assert all(window.end + lateness <= watermark for window in due)
    assert following + spec.length + lateness > watermark
    assert all(first.end == second.start for first, second in pairwise(due))


def test_empty_windows_are_listed_but_a_long_gap_is_skipped() -> None:
    spec = WindowSpec(length=timedelta(days=1), lateness=timedelta())
    near = list(due_windows(spec, at("2013-01-01"), at("2013-01-11"), [date(2013, 1, 1), date(2013, 1, 10)]))
    far = list(due_windows(spec, at("1970-01-05"), at("2013-01-11"), [date(1970, 1, 5), date(2013, 1, 10)]))
    assert len(near) == 10
    assert [window.start for window in far] == [at("1970-01-05"), at("2013-01-10")]
    assert MOST_EMPTY < 100


@pytest.mark.parametrize("bad", ["2013-01-01"])
def test_a_window_without_zone_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="timezone"):
        Window.model_validate({"start": bad + "T00:00", "end": bad + "T01:00"})
