"""Durations as people write them: `15m`, `36h`, `7d`, `8w` in a spec, and also plain seconds in a setting."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TOKEN = re.compile(r"(\d+)([smhdw])")
_WHOLE = re.compile(r"(?:\d+[smhdw])+")


def parse_duration(text: object) -> timedelta:
    """Read `1d12h` as 36 hours; raises ValueError naming the text when it is not a duration."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 30m, 12h, 7d or 8w")
    parts = (timedelta(**{_UNITS[unit]: int(number)}) for number, unit in _TOKEN.findall(text))
    try:
        return sum(parts, timedelta())
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any duration can be; write a shorter one, such as 8w") from None


def format_duration(duration: timedelta) -> str:
    """Write 36 hours as `1d12h`; the inverse of `parse_duration` for whole seconds."""
    seconds, text = int(duration.total_seconds()), ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")]
"""A timedelta that a spec writes as `7d` and `model.json` keeps as `7d`."""


def parse_seconds(value: object) -> timedelta:
    """Read `30` or `0.5` as seconds, or what `parse_duration` reads; raises ValueError naming the text."""
    try:
        return timedelta(seconds=float(str(value))) if isinstance(value, str | int | float) else parse_duration(value)
    except ValueError:
        return parse_duration(value)
    except OverflowError:
        raise ValueError(f"{value!r} is longer than any duration can be; write a shorter one, such as 30") from None


Seconds = Annotated[timedelta, BeforeValidator(parse_seconds)]
"""A timedelta that a setting gives in seconds, or as a spec writes it."""
