"""The encoder: features of a single row in plain Python, the scalar twin of `CompiledFeatures.matrix`.

A polars call costs more than a whole row costs here. The exceptions are computed from a table of one row:
user functions, which exist only as polars expressions, and local times in years for which polars and Python
do not agree on the clock.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from perennial.features import CROSS_SEPARATOR, MICROSECOND, FeatureSet, compile_features, single_column
from perennial.schema import POLARS
from perennial.spec import FeatureSpec, feature_columns
from perennial.value_types import Dtype, check_value, parse_time

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
    scalar = _scalar(name, spec, features)
    if spec.time_zone and spec.operation == "date_part":
        column = single_column(name, spec, features.event_time)
        return _agreed(column, scalar, _through_polars(name, features, base))
    return scalar


def _scalar(name: str, spec: FeatureSpec, features: FeatureSet) -> Callable[[Row], float]:
    if features.kinds[name] == "numeric":
        return _finite(_NUMBERS[spec.operation](name, spec, features))
    codes = {category: float(code) for code, category in enumerate(features.categories[name])}
    text = _category(name, spec, features)
    return lambda row: codes.get(text(row), NAN)  # type: ignore[arg-type]  # None is no category


def _agreed(column: str, scalar: Callable[[Row], float], polars: Callable[[Row], float]) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        time = row[column]
        return scalar(row) if time is None or parse_time(time).year in AGREED_YEARS else polars(row)

    return step


def _finite(number: Number) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        value = number(row)
        return value if value is not None and math.isfinite(value) else NAN

    return step


def _lift(function: Callable[..., Any], *parts: Callable[[Row], Any]) -> Callable[[Row], Any]:
    """The function of what the parts give for a row; None where one of them gives None."""
    first, *others = parts

    def of_one(row: Row) -> Any:  # a third cheaper than the general case
        value = first(row)
        return None if value is None else function(value)

    def of_all(row: Row) -> Any:
        values = [part(row) for part in parts]
        return None if None in values else function(*values)

    return of_all if others else of_one


def _category(name: str, spec: FeatureSpec, features: FeatureSet) -> Text:
    if spec.operation == "cross":
        texts = [_text(column, features) for column in spec.cross or ()]
        return _lift(lambda *parts: CROSS_SEPARATOR.join(map(_escape, parts)), *texts)
    if spec.operation == "column":
        return _text(single_column(name, spec, features.event_time), features)
    return _lift(_number_text, _NUMBERS[spec.operation](name, spec, features))


def _number(column: str, features: FeatureSet) -> Number:
    convert = _since_epoch if features.dtype(column) == "datetime" else float
    return _lift(convert, itemgetter(column))


def _numbers(columns: tuple[str, ...] | None, features: FeatureSet) -> list[Number]:
    return [_number(column, features) for column in columns or ()]


def _since_epoch(time: object) -> float:
    return _seconds(parse_time(time) - EPOCH)


def _seconds(duration: timedelta) -> float:
    return duration.days * 86_400.0 + duration.seconds + duration.microseconds * MICROSECOND


def _text(column: str, features: FeatureSet) -> Text:
    return _lift(_TEXTS[features.dtype(column)], itemgetter(column))


def _number_text(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    if value == math.floor(value) and abs(value) < 2.0**53:
        return str(int(value))
    return str(pl.Series([float(value)]).cast(pl.String)[0])  # rare; only polars writes exponents as polars does


def _column(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    return _number(single_column(name, spec, features.event_time), features)


def _date_part(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    zone = ZoneInfo(spec.time_zone) if spec.time_zone else UTC
    part = _PARTS[str(spec.date_part)]
    return _lift(
        lambda time: float(part(parse_time(time).astimezone(zone))), itemgetter(single_column(name, spec, features.event_time))
    )


def _difference(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    columns = spec.difference or ()
    if all(features.dtype(column) == "datetime" for column in columns):
        return _lift(lambda first, second: _seconds(parse_time(first) - parse_time(second)), *map(itemgetter, columns))
    return _lift(lambda first, second: first - second, *_numbers(columns, features))


def _ratio(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    return _lift(lambda first, second: first / second if second else NAN, *_numbers(spec.ratio, features))


def _bins(name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    edges = spec.bins or ()
    return _lift(lambda value: float(bisect_right(edges, value)), _column(name, spec, features))


def _log(_name: str, spec: FeatureSpec, features: FeatureSet) -> Number:
    return _lift(lambda value: math.log1p(value) if value > -1 else NAN, _number(str(spec.log), features))


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

_TEXTS: dict[Dtype, Callable[[Any], str | None]] = {
    "string": str,
    "bool": lambda value: "true" if value else "false",
    "int": lambda value: str(int(value)),
    "float": _number_text,
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
