"""The encoder: features of a single row in plain Python, the scalar twin of `CompiledFeatures.matrix`.

A polars call costs more than a whole row costs here. The exceptions are computed from a table of one row:
user functions, which exist only as polars expressions, and local times in years for which polars and Python
do not agree on the clock.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from perennial.features import CROSS_SEPARATOR, MICROSECOND, FeatureSet, compile_features
from perennial.schema import POLARS
from perennial.spec import FeatureSpec, feature_columns
from perennial.value_types import Dtype, check_value, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAN = math.nan
AGREED_YEARS = range(1900, 2037)  # in which both know a zone's clock alike; polars' zones have no summer time after 2037

Row = Mapping[str, Any]
RowEncoder = Mapping[str, Callable[[Row], float]]
"""By feature: from a row with values in their contract types, and the event time beside its columns, to the value of
`CompiledFeatures.matrix`: NaN for null and for an unknown category. Any thread may call it."""


def compile_row_encoder(features: FeatureSet, base: Path) -> RowEncoder:
    """How each feature of one model comes from one row; `base` is the directory of the user functions."""
    return {name: _step(name, features.specs[name], features, base) for name in features.names}


def _step(name: str, spec: FeatureSpec, features: FeatureSet, base: Path) -> Callable[[Row], float]:
    if spec.operation == "function":
        return _through_polars(name, features, base)
    columns, categorical = feature_columns(name, spec, features.event_time), features.kinds[name] == "categorical"
    dtypes = [features.dtype(column) for column in columns]
    is_text = spec.operation == "cross" or (spec.operation == "column" and categorical)
    is_time = spec.operation == "date_part" or (spec.operation == "difference" and set(dtypes) == {"datetime"})
    readers = [_TEXTS[dtype] if is_text else parse_time if is_time else _NUMBERS.get(dtype, float) for dtype in dtypes]
    function, arguments = _FUNCTIONS[spec.operation](spec), tuple(zip(columns, readers, strict=True))
    if categorical:
        text = _lift(function if is_text else lambda *values: _number_text(function(*values)), arguments)
        codes: dict[str | None, float] = {category: float(code) for code, category in enumerate(features.categories[name])}
        step: Callable[[Row], float] = lambda row: codes.get(text(row), NAN)  # noqa: E731
    else:
        step = _finite(_lift(function, arguments))
    if spec.operation == "date_part" and spec.time_zone:
        return _where_clocks_agree(columns[0], step, _through_polars(name, features, base))
    return step


def _lift(function: Callable[..., Any], arguments: tuple[tuple[str, Callable[[Any], Any]], ...]) -> Callable[[Row], Any]:
    """The function of what the columns' readers give for a row; None where one of them has nothing."""
    column, read = arguments[0]

    def of_one(row: Row) -> Any:  # a third cheaper than the general case
        value = row[column]
        return None if value is None else function(read(value))

    def of_all(row: Row) -> Any:
        values = [None if row[column] is None else read(row[column]) for column, read in arguments]
        return None if None in values else function(*values)

    return of_one if len(arguments) == 1 else of_all


def _finite(number: Callable[[Row], float | None]) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        value = number(row)
        return value if value is not None and math.isfinite(value) else NAN

    return step


def _where_clocks_agree(column: str, scalar: Callable[[Row], float], polars: Callable[[Row], float]) -> Callable[[Row], float]:
    def step(row: Row) -> float:
        time = row[column]
        return scalar(row) if time is None or parse_time(time).year in AGREED_YEARS else polars(row)

    return step


def _through_polars(name: str, features: FeatureSet, base: Path) -> Callable[[Row], float]:
    alone = compile_features(features.model_copy(update={"names": (name,)}), base)
    columns = feature_columns(name, features.specs[name], features.event_time)
    dtypes = {column: features.dtype(column) for column in columns}
    schema = {column: POLARS[dtype] for column, dtype in dtypes.items()}

    def step(row: Row) -> float:
        frame = pl.DataFrame({column: [check_value(row[column], dtype)] for column, dtype in dtypes.items()}, schema=schema)
        return float(alone.matrix(frame)[0, 0])

    return step


def _seconds(duration: timedelta) -> float:
    return duration.days * 86_400.0 + duration.seconds + duration.microseconds * MICROSECOND


def _number_text(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    if value == math.floor(value) and abs(value) < 2.0**53:
        return str(int(value))
    return str(pl.Series([float(value)]).cast(pl.String)[0])  # rare; only polars writes exponents as polars does


def _date_part(spec: FeatureSpec) -> Callable[[datetime], float]:
    zone, part = ZoneInfo(spec.time_zone) if spec.time_zone else UTC, _PARTS[str(spec.date_part)]
    return lambda time: float(part(time.astimezone(zone)))


def _difference(first: Any, second: Any) -> float:
    gap = first - second
    return _seconds(gap) if isinstance(gap, timedelta) else gap


def _cross(*parts: str) -> str:
    return CROSS_SEPARATOR.join(part.replace("\\", "\\\\").replace(CROSS_SEPARATOR, "\\" + CROSS_SEPARATOR) for part in parts)


_FUNCTIONS: dict[str, Callable[[FeatureSpec], Callable[..., Any]]] = {
    "column": lambda _spec: lambda value: value,
    "date_part": _date_part,
    "difference": lambda _spec: _difference,
    "ratio": lambda _spec: lambda first, second: first / second if second else NAN,
    "bins": lambda spec: lambda value: float(bisect_right(spec.bins or (), value)),
    "log": lambda _spec: lambda value: math.log1p(value) if value > -1 else NAN,
    "cross": lambda _spec: _cross,
}

_NUMBERS: dict[Dtype, Callable[[Any], float]] = {"datetime": lambda time: _seconds(parse_time(time) - EPOCH)}

_TEXTS: dict[Dtype, Callable[[Any], str | None]] = {
    "string": str,
    "bool": lambda value: "true" if value else "false",
    "int": lambda value: str(int(value)),
    "float": _number_text,
}

_PARTS: dict[str, Callable[[datetime], int]] = {
    "minute_of_day": lambda time: time.hour * 60 + time.minute,
    "weekday": datetime.isoweekday,
    "week": lambda time: time.isocalendar().week,
    **{part: attrgetter(part) for part in ("hour", "day", "month", "year")},
}
