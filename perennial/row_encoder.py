"""The encoder: features of a single row in plain Python, the scalar twin of `CompiledFeatures.matrix`.

A polars call costs more than a whole row costs here. The exceptions are computed from a table of one row:
user functions, which exist only as polars expressions, and local times in years for which polars and Python
do not agree on the clock.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from perennial.features import CROSS_SEPARATOR, MICROSECOND, FeatureSet, compile_features, single_column
from perennial.schema import POLARS
from perennial.spec import FeatureSpec, feature_columns
from perennial.value_types import check_value, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAN = math.nan

AGREED_YEARS = range(1900, 2037)
"""Years in which both know a zone's clock alike; after 2037 the zones that polars brings have no summer time."""

Row = Mapping[str, Any]
Number = Callable[[Row], float | None]
Text = Callable[[Row], str | None]


class RowEncoder:
    """How each feature of one model comes from one row; built once per model, safe to share between threads."""

    def __init__(self, features: FeatureSet, base: Path) -> None:
        self.steps: Mapping[str, Callable[[Row], float]] = {name: _step(name, features, base) for name in features.names}
        """By feature: from a row with values in their contract types, and the event time beside its columns, to the value of
        `CompiledFeatures.matrix`: NaN for null and for an unknown category."""


def _step(name: str, features: FeatureSet, base: Path) -> Callable[[Row], float]:
    spec = features.specs[name]
    if spec.operation == "function":
        return _through_polars(name, features, base)
    if spec.time_zone and spec.operation == "date_part":
        column = single_column(name, spec, features.event_time)
        return _agreed(column, _scalar(name, spec, features), _through_polars(name, features, base))
    return _scalar(name, spec, features)


def _scalar(name: str, spec: FeatureSpec, features: FeatureSet) -> Callable[[Row], float]:
    if features.kinds[name] == "numeric":
        return _finite(_NUMBERS[spec.operation](name, spec, features))
    return _coded(_category(name, spec, features), features.categories[name])


def _agreed(column: str, scalar: Callable[[Row], float], polars: Callable[[Row], float]) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        time = row[column]
        return scalar(row) if time is None or parse_time(time).year in AGREED_YEARS else polars(row)

    return step


def _finite(number: Number) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        value = _finite_or_none(number(row))
        return NAN if value is None else value

    return step


def _coded(text: Text, categories: tuple[str, ...]) -> Callable[[Row], float]:
    codes = {category: float(code) for code, category in enumerate(categories)}

    def step(row: Row) -> float:
        value = text(row)
        return NAN if value is None else codes.get(value, NAN)

    return step


def _category(name: str, spec: FeatureSpec, features: FeatureSet) -> Text:
    if spec.operation == "cross":
        return _cross(spec, features)
    if spec.operation == "column":
        return _text(single_column(name, spec, features.event_time), features)
    number = _NUMBERS[spec.operation](name, spec, features)
    return lambda row: _number_text(_finite_or_none(number(row)))


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(column: str, features: FeatureSet) -> Number:
    if features.dtype(column) == "datetime":
        return lambda row: None if row[column] is None else _seconds(parse_time(row[column]) - EPOCH)
    return lambda row: None if row[column] is None else float(row[column])


def _seconds(duration: timedelta) -> float:
    return duration.days * 86_400.0 + duration.seconds + duration.microseconds * MICROSECOND


def _text(column: str, features: FeatureSet) -> Text:
    match features.dtype(column):
        case "string":
            return lambda row: row[column]
        case "bool":
            return lambda row: None if row[column] is None else "true" if row[column] else "false"
        case "int":
            return lambda row: None if row[column] is None else str(int(row[column]))
        case _:
            return lambda row: _number_text(row[column])


def _number_text(value: float | None) -> str | None:
    if value is None:
        return None
    if value == math.floor(value) and abs(value) < 2.0**53:
        return str(int(value))
    return str(pl.Series([float(value)]).cast(pl.String)[0])  # rare; only polars writes exponents as polars does


def _column(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    return _number(single_column(name, spec, features.event_time), features)


def _date_part(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    column = single_column(name, spec, features.event_time)
    zone = ZoneInfo(spec.time_zone) if spec.time_zone else UTC
    part = _PARTS[str(spec.date_part)]
    return lambda row: None if row[column] is None else float(part(parse_time(row[column]).astimezone(zone)))


def _difference(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    if all(features.dtype(column) == "datetime" for column in spec.difference or ()):
        return _time_difference(*(spec.difference or ("", "")))
    first, second = (_number(column, features) for column in spec.difference or ())
    return _both(first, second, lambda a, b: a - b)


def _time_difference(first: str, second: str) -> Number:
    def number(row: Row) -> float | None:
        a, b = row[first], row[second]
        return None if a is None or b is None else _seconds(parse_time(a) - parse_time(b))

    return number


def _ratio(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    first, second = (_number(column, features) for column in spec.ratio or ())
    return _both(first, second, lambda a, b: a / b if b else NAN)


def _both(first: Number, second: Number, combine: Callable[[float, float], float]) -> Number:
    def number(row: Row) -> float | None:
        a, b = first(row), second(row)
        return None if a is None or b is None else combine(a, b)

    return number


def _bins(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    number, edges = _number(single_column(name, spec, features.event_time), features), spec.bins or ()
    return _mapped(number, lambda value: float(bisect_right(edges, value)))


def _log(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    return _mapped(_number(str(spec.log), features), lambda value: math.log1p(value) if value > -1 else NAN)


def _mapped(number: Number, function: Callable[[float], float]) -> Number:
    def mapped(row: Row) -> float | None:
        value = number(row)
        return None if value is None else function(value)

    return mapped


def _cross(spec: FeatureSpec, features: FeatureSet) -> Text:
    texts = [_text(column, features) for column in spec.cross or ()]

    def text(row: Row) -> str | None:
        parts = [part(row) for part in texts]
        return None if None in parts else CROSS_SEPARATOR.join(_escape(str(part)) for part in parts)

    return text


def _escape(part: str) -> str:
    return part.replace("\\", "\\\\").replace(CROSS_SEPARATOR, "\\" + CROSS_SEPARATOR)


def _through_polars(name: str, features: FeatureSet, base: Path) -> Callable[[Row], float]:
    alone = compile_features(features.model_copy(update={"names": (name,)}), base)
    columns = feature_columns(name, features.specs[name], features.event_time)
    dtypes = {column: features.dtype(column) for column in columns}
    schema = {column: POLARS[dtype] for column, dtype in dtypes.items()}

    def step(row: Row) -> float:
        frame = pl.DataFrame({column: [check_value(row[column], dtype)] for column, dtype in dtypes.items()}, schema=schema)
        return float(alone.matrix(frame)[0, 0])

    return step


_NUMBERS: dict[str, Callable[[str, FeatureSpec, FeatureSet], Number]] = {
    "column": _column,
    "date_part": _date_part,
    "difference": _difference,
    "ratio": _ratio,
    "bins": _bins,
    "log": _log,
}

_PARTS: dict[str, Callable[[datetime], int]] = {
    "minute_of_day": lambda time: time.hour * 60 + time.minute,
    "hour": lambda time: time.hour,
    "weekday": lambda time: time.isoweekday(),
    "day": lambda time: time.day,
    "week": lambda time: time.isocalendar().week,
    "month": lambda time: time.month,
    "year": lambda time: time.year,
}
