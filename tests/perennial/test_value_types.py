"""A single value from a client: taken as it is or refused, never guessed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from perennial.value_types import Dtype, check_value, parse_time

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "given", "taken"),
    [
        ("float", 1, 1.0),
        ("float", -2.5, -2.5),
        ("float", 10**30, 1e30),
        ("int", 7, 7),
        ("int", 7.0, 7),
        ("int", -(2**63) + 1, -(2**63) + 1),
        ("bool", True, True),
        ("string", "ÅB", "ÅB"),
        ("string", "", ""),
        ("datetime", "2013-03-01T12:00:00Z", NOON),
        ("datetime", "2013-03-01T13:00:00+01:00", NOON),
        ("datetime", "2013-03-01 12:00", NOON),
        ("datetime", NOON, NOON),
    ],
)
def test_a_value_of_the_type_is_taken(dtype: Dtype, given: object, taken: Any) -> None:
    value = check_value(given, dtype)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize("dtype", ["float", "int", "bool", "string", "datetime"])
def test_null_is_always_a_value(dtype: Dtype) -> None:
    assert check_value(None, dtype) is None


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float", True),
        ("float", "1.5"),
        ("float", float("nan")),
        ("float", float("inf")),
        ("float", [1.0]),
        ("int", 1.5),
        ("int", False),
        ("int", "1"),
        ("int", 2**63),
        ("int", float("nan")),
        ("int", float("inf")),
        ("bool", 1),
        ("bool", "true"),
        ("string", 1),
        ("string", "\ud800"),
        ("datetime", 1_362_139_200),
        ("datetime", "yesterday"),
        ("datetime", "9999-12-31T23:59:59-10:00"),
    ],
)
def test_any_other_value_is_refused(dtype: Dtype, given: object) -> None:
    with pytest.raises((ValueError, OverflowError)):
        check_value(given, dtype)


def test_a_whole_number_beyond_all_floats_is_refused() -> None:
    with pytest.raises(OverflowError):
        check_value(10**400, "float")


def test_a_naive_time_is_read_as_utc() -> None:
    assert parse_time(datetime(2013, 3, 1, 12)) == NOON  # noqa: DTZ001 - the naive time is the point
    assert parse_time("2013-03-01").tzinfo is UTC
