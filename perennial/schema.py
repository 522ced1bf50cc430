"""The schema: which raw columns a model reads, inferred from a training table, and how later tables are cast to it.

Rows of clients are checked against the same columns by the service's row contract (`service.decoding`). A column of any polars
type that a feature reads is converted without loss, or refused with its name and the fix (tests/cases/test_dtypes.py).
"""

import math
from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from typing import Literal

import polars as pl

from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.spec import FeatureSpec, Kind, ModelSpec, feature_columns
from perennial.value_types import EXPECTED, Dtype, parse_time

Use = Literal["number", "text", "time", "raw"]

POLARS: dict[Dtype, pl.DataType] = {  # what each contract type is in a table
    "float": pl.Float64(),
    "int": pl.Int64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}

_TEXTS = (pl.String, pl.Categorical, pl.Enum)

_EXACT = """a number that a float holds exactly; give its feature kind = "categorical", \
or round it by derive."{name}" = 'CAST("{name}" AS DOUBLE)'"""

_USES: dict[str, Use] = {
    "date_part": "time",
    "difference": "number",
    "ratio": "number",
    "bins": "number",
    "log": "number",
    "cross": "text",
    "function": "raw",
}


class Column(FrozenModel):
    """A raw input column that a client sends."""

    name: str
    kind: Kind
    dtype: Dtype


class Schema(FrozenModel):
    """The raw inputs of a model in order, and the names of the columns that travel beside them."""

    columns: tuple[Column, ...]
    target: str
    event_time: str
    id: str | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def dtypes(self) -> dict[str, Dtype]:
        return {column.name: column.dtype for column in self.columns}


def infer_kind(feature: FeatureSpec, dtype: pl.DataType) -> Kind:
    """Kind of a feature that is a column of this type: as the spec says, else texts are categorical.

    A bool is numeric (0 and 1): it splits alike, and a distance between shares is a distance between means.
    """
    return feature.kind or ("categorical" if isinstance(dtype, _TEXTS) else "numeric")


def infer_schema(spec: ModelSpec, frame: pl.DataFrame) -> Schema:
    """The schema of the inputs of `spec` as `frame` has them.

    A number is a `float`, except whole numbers that stand for categories: those stay `int`, so that 1 is "1", or become
    `string` where one has no place in 64 bits.
    Raises DataError naming a column that is missing or has a type no feature can use.
    """
    refuse_missing(frame.columns, (*spec.inputs, spec.event_time))
    uses = _column_uses(spec, frame)
    columns = [_column(frame[name], uses[name]) for name in spec.inputs]
    return Schema(columns=tuple(columns), target=spec.target, event_time=spec.event_time, id=spec.id)


def cast_frame(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """`frame` with its inputs, and its event time where it has one, cast to the contract types; the rest is untouched.

    NaN becomes null, a naive time is read as UTC. Raises DataError naming column, row and value.
    """
    refuse_missing(frame.columns, schema.names)
    wanted = schema.dtypes
    if schema.event_time in frame.columns:
        wanted[schema.event_time] = "datetime"
    return frame.with_columns(cast_series(frame[name], dtype) for name, dtype in wanted.items())


def cast_series(series: pl.Series, dtype: Dtype) -> pl.Series:
    """One column in its contract type; raises DataError naming column, row and value where one would be lost or changed."""
    if series.dtype == POLARS[dtype] and (dtype != "float" or math.isfinite(series.sum())):
        return series  # a finite sum has only finite terms
    given = series.fill_nan(None) if series.dtype.is_float() else series
    given = given.cast(pl.String) if isinstance(given.dtype, (pl.Categorical, pl.Enum)) else given
    cast = cast_or_null(given, dtype)
    lost = cast.is_null() & given.is_not_null()
    if dtype == "float":
        lost |= cast.is_infinite().fill_null(value=False)
    elif given.dtype.is_numeric() and dtype in ("int", "bool"):
        lost |= (cast.cast(pl.Float64) != given.cast(pl.Float64)).fill_null(value=False)
    expected = EXPECTED[dtype]
    if dtype == "float" and (given.dtype.is_integer() or given.dtype.is_decimal()):
        lost, expected = cast.cast(given.dtype, strict=False).ne_missing(given), _EXACT.format(name=series.name)
    if lost.any():
        row = lost.arg_true()[0]
        raise DataError(f"column {series.name!r}, row {row}: {series[row]!r:.80} is not {expected}")
    return cast


def unreadable(name: str, dtype: pl.DataType) -> str | None:
    """Why no feature can read a column of this type, and the fix; None where one can."""
    if isinstance(dtype, (*_TEXTS, pl.Date, pl.Datetime, pl.Boolean, pl.Null)) or dtype.is_numeric():
        return None
    fix = "have a query or a loader turn it into numbers, texts or times"
    match dtype:
        case pl.Duration():
            fix = f"derive a number from it, such as derive.number = 'CAST(\"{name}\" AS BIGINT)' (in {dtype.time_unit})"
        case pl.Time():
            fix = f"derive a number from it, such as derive.number = 'EXTRACT(HOUR FROM \"{name}\")'"
        case pl.List():
            fix = f"derive a value from it, such as derive.number = 'ARRAY_LENGTH(\"{name}\")'"
        case pl.Struct() if dtype.fields:
            fix = f'derive a value from it, such as derive.part = \'"{name}"."{dtype.fields[0].name}"\''
    return f"is {dtype!s:.80}, which no feature can read; {fix}"


def free_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or `name_`, `name__`, ...: the first that none of the table's own columns has."""
    own = set(taken)
    while name in own:
        name += "_"
    return name


def refuse_missing(columns: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise DataError when a wanted column is not there, naming the nearest one that is."""
    present = list(columns)
    for name in wanted:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the table has {', '.join(present[:20]) or 'no columns'}"
            raise DataError(f"the table has no column {name!r}{hint}")


def _column_uses(spec: ModelSpec, frame: pl.DataFrame) -> dict[str, set[Use]]:
    uses: dict[str, set[Use]] = {}
    for name, feature in spec.features.items():
        for column in feature_columns(name, feature, spec.event_time):
            use = _USES.get(feature.operation) or _use_as_it_is(name, feature, frame.schema.get(column, pl.Null()))
            uses.setdefault(column, set()).add(use)
    return uses


def _use_as_it_is(name: str, feature: FeatureSpec, dtype: pl.DataType) -> Use:
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        raise DataError(f"feature {name!r} is a time as it is, which no later time resembles; use date_part or difference")
    return "text" if infer_kind(feature, dtype) == "categorical" else "number"


def _column(values: pl.Series, uses: set[Use]) -> Column:
    contract = _contract(values, uses)
    text = "text" in uses or (uses == {"raw"} and contract == "string")
    return Column(name=values.name, kind="categorical" if text else "numeric", dtype=contract)


def _contract(values: pl.Series, uses: set[Use]) -> Dtype:
    """The contract type of a column of this type, given what features use it for."""
    name, dtype, texts = values.name, values.dtype, isinstance(values.dtype, _TEXTS)
    if isinstance(dtype, (pl.Date, pl.Datetime)) or ("time" in uses and (texts or dtype == pl.Null)):
        contract: Dtype = "datetime"
    elif dtype == pl.Boolean:
        contract = "bool"
    elif dtype.is_numeric():
        whole: Dtype = "string" if _exceeds_int64(values) and "number" not in uses else "int"
        contract = whole if "text" in uses and dtype.is_integer() else "float"
    elif texts or dtype == pl.Null:
        contract = "float" if "number" in uses else "string"
    else:
        raise DataError(f"column {name!r} {unreadable(name, dtype)}")
    if ("time" in uses and contract != "datetime") or (contract in ("float", "datetime") and texts and "text" in uses):
        raise DataError(f"column {name!r} is {dtype} and is used as {' and '.join(sorted(uses))}; derive a column for each use")
    return contract


def _exceeds_int64(values: pl.Series) -> bool:
    """Whether some whole number has no place in 64 bits with a sign: as categories such numbers are texts, also in requests."""
    return values.dtype.is_integer() and values.cast(pl.Int64, strict=False).null_count() > values.null_count()


def cast_or_null(series: pl.Series, dtype: Dtype) -> pl.Series:
    """One column in a contract type, null where a value has none."""
    found = series.dtype
    match dtype:
        case "float" | "int" if found.is_numeric() or found in (pl.Boolean, pl.String):
            cast = series.cast(POLARS[dtype], strict=False)
            return cast.fill_nan(None) if dtype == "float" else cast
        case "bool" if found == pl.String:
            truths = {"true": True, "false": False}
            return series.str.to_lowercase().replace_strict(truths, default=None, return_dtype=pl.Boolean)
        case "bool" if found.is_numeric():
            return series.cast(pl.Boolean)
        case "string" if found.is_float():
            return pl.select(float_text(pl.lit(series.cast(pl.Float64)))).to_series().alias(series.name)
        case "string" if found.is_integer() or found in (pl.Boolean, pl.String):
            return series.cast(pl.String)
        case "datetime" if found == pl.String:
            return pl.Series(series.name, map(_time_or_none, series), dtype=POLARS[dtype])
        case "datetime" if isinstance(found, pl.Datetime) and found.time_zone is not None:
            return series.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
        case "datetime" if isinstance(found, (pl.Date, pl.Datetime)):
            return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.Series(series.name, [None], dtype=POLARS[dtype]).new_from_index(0, len(series))


def _time_or_none(text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        return None


def float_text(number: pl.Expr) -> pl.Expr:
    """A Float64 as a category: 1.0 is "1", as the same category is written when it comes as a whole number."""
    whole = (number == number.floor()) & (number.abs() < 2.0**53)
    return pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(number.cast(pl.String))
