"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "hours"),
    [("36h", 36), ("1d12h", 36), ("8w", 8 * 168), ("15m", 0.25), ("90s", 0.025), ("0s", 0), ("1w1d1h1m", 193 + 1 / 60)],
)
def test_a_number_and_a_unit_or_several(text: str, hours: float):
    assert parse_duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-1d", "1.5h", "7D", "1y", "P7D", 7, None])
def test_anything_else_is_refused_with_its_text(text: object):
    with pytest.raises(ValueError, match="is not a duration; write a number and a unit") as refused:
        parse_duration(text)
    assert repr(text) in str(refused.value)


def test_a_duration_beyond_all_calendars_is_refused():
    with pytest.raises(ValueError, match="'999999999999w' is longer than any duration"):
        parse_duration("999999999999w")


def test_a_timedelta_is_one_already():
    assert parse_duration(timedelta(days=7)) == timedelta(days=7)


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=9_999)))
def test_what_is_written_is_read_back(duration: timedelta):
    whole = timedelta(seconds=int(duration.total_seconds()))
    assert parse_duration(format_duration(duration)) == whole
