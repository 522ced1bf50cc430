"""Value types: what a single value from a client may be, by the contract type of its column.

Plain Python on purpose: a process that only checks requests does not load polars.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

Dtype = Literal["float", "int", "bool", "string", "datetime"]

OLDEST = datetime(1900, 1, 1, tzinfo=UTC)
"""Event times before this are misread ones: a training quarantines them, and the monitor closes no window for them."""

EXPECTED: dict[Dtype, str] = {  # how messages name what a column takes; null is always taken
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "a text",
    "datetime": "a time in ISO 8601, such as 2013-03-01T08:15:00Z",
}


def check_value(value: object, dtype: Dtype) -> Any:
    """A client's value in its contract type: nothing is guessed, a number in quotes is a text. Raises ValueError."""
    return None if value is None else _CHECK[dtype](value)


def parse_time(value: object) -> datetime:
    """A time in UTC from ISO 8601 text or a datetime; a naive one is read as UTC. Raises ValueError."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value) if isinstance(value, str) else None
    if time is None:
        raise ValueError(f"{value!r:.80} is not {EXPECTED['datetime']}")
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r:.80} is out of range") from None


def _check_float(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(EXPECTED["float"])


def _check_int(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63 and int(value) == value:
        return int(value)
    raise ValueError(EXPECTED["int"])


def _check_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(EXPECTED["bool"])


def _check_string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(EXPECTED["string"])
    if not value.isascii():
        value.encode()  # half of a surrogate pair is a text to JSON, but to nothing else
    return value


_CHECK: dict[Dtype, Callable[[object], Any]] = {
    "float": _check_float,
    "int": _check_int,
    "bool": _check_bool,
    "string": _check_string,
    "datetime": parse_time,
}
