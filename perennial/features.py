"""Features: the only definition of what each operation of a spec means for a table, as polars expressions.

`perennial.row_encoder` is the same for a single row; property tests hold the two equal. Numbers are Float64, null where not
finite; categories are texts; a time used as a number is seconds since 1970. The readable values (`table`) become the model's
matrix by the frozen dictionary of categories: code = place in it, NaN for null and for a category that it does not have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.errors import FunctionError, SpecError
from perennial.log_columns import EVENT_TIME
from perennial.schema import POLARS, cast_series, float_text, infer_kind, infer_schema, refuse_missing
from perennial.spec import FeatureSpec, Kind, ModelSpec, feature_columns
from perennial.user_functions import load_function
from perennial.value_types import Dtype

MAX_CATEGORIES = 4_096  # of a dictionary; rarer ones count as unknown: `model.json` stays below a few hundred kB per column
CROSS_SEPARATOR = "|"  # between the parts of a cross; a part's own `|` and `\` are escaped by `\`: no two crosses are alike
MICROSECONDS, MICROSECOND = 1_000_000, 1e-6  # how many are in a second, and one in seconds

Dtypes = Mapping[str, Dtype]


class FeatureSet(FrozenModel):
    """Everything that must be frozen with a model to compute its inputs again.

    `kinds`, `specs` are by feature; `categories` by categorical feature, in the order of their codes;
    `dtypes` by raw input column (the event time, always a datetime, is not among them).
    """

    names: tuple[str, ...]
    kinds: dict[str, Kind]
    specs: dict[str, FeatureSpec]
    categories: dict[str, tuple[str, ...]]
    event_time: str
    dtypes: dict[str, Dtype]

    @property
    def reads(self) -> tuple[str, ...]:
        """Source columns that the features read, in order of first use."""
        columns = (column for name in self.names for column in feature_columns(name, self.specs[name], self.event_time))
        return tuple(dict.fromkeys(columns))

    def dtype(self, column: str) -> Dtype:
        return "datetime" if column == self.event_time else self.dtypes[column]


@dataclass(frozen=True)
class CompiledFeatures:
    """Features ready to compute: one polars expression each, named as the feature."""

    features: FeatureSet
    expressions: tuple[pl.Expr, ...]

    def table(self, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Readable values, (n, k): numeric Float64, categorical String. Other columns of `frame` are ignored."""
        inputs = self._inputs(frame)
        try:
            return inputs.with_columns(self.expressions).select(self.features.names)
        except pl.exceptions.PolarsError as error:
            raise FunctionError(f"the features cannot be computed from this table: {error}") from error

    def only(self, name: str) -> "CompiledFeatures":
        """One of these features by itself, to compute a large table feature by feature."""
        place = self.features.names.index(name)
        return CompiledFeatures(self.features.model_copy(update={"names": (name,)}), (self.expressions[place],))

    def matrix(self, frame: pl.DataFrame | pl.LazyFrame) -> Floats:
        """The model's input, float64 (n, k): numbers, and codes of categories; NaN for null and unknown."""
        return self.codes(self.table(frame))

    def codes(self, table: pl.DataFrame) -> Floats:
        """The model's input from readable values, for a caller that needs both."""
        coded = {name: pl.Enum(categories) for name, categories in self.features.categories.items()}
        known = {name: pl.col(name).cast(dtype, strict=False).to_physical() for name, dtype in coded.items()}
        codes = table.select(known.get(name, pl.col(name)).cast(pl.Float64).fill_null(np.nan) for name in self.features.names)
        return codes.to_numpy(order="c") if self.features.names else np.empty((table.height, 0))

    def count_unknown(self, table: "pl.DataFrame | ReadableColumns") -> dict[str, int]:
        """By categorical feature: readable values that are not in the dictionary (nulls not counted)."""
        return {name: int((~table[name].is_in(known)).sum()) for name, known in self.features.categories.items()}

    def count_nulls(self, table: pl.DataFrame) -> dict[str, int]:
        return {name: table[name].null_count() for name in self.features.names}

    def _inputs(self, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        event_time, columns = self.features.event_time, frame.collect_schema().names()
        if event_time not in columns and EVENT_TIME in columns:
            frame, columns = frame.with_columns(pl.col(EVENT_TIME).alias(event_time)), [*columns, event_time]
        refuse_missing(columns, self.features.reads)
        chosen = frame.select(self.features.reads)
        inputs = chosen.collect() if isinstance(chosen, pl.LazyFrame) else chosen
        return inputs.with_columns(cast_series(inputs[name], self.features.dtype(name)) for name in self.features.reads)


@dataclass(frozen=True)
class ReadableColumns:
    """`CompiledFeatures.table` of a frame by column, each computed when it is asked for: the memory of one, not of all."""

    compiled: CompiledFeatures
    frame: pl.DataFrame

    @property
    def height(self) -> int:
        return self.frame.height

    def __getitem__(self, name: str) -> pl.Series:
        return self.compiled.only(name).table(self.frame)[name]


@dataclass(frozen=True)
class EncodedRows:
    """`CompiledFeatures.matrix` of a frame, of which those rows are computed that are asked for: indexed as an array is."""

    compiled: CompiledFeatures
    frame: pl.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        return self.frame.height, len(self.compiled.features.names)

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, key: Any) -> Any:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, (int, np.integer)):
            found = self.compiled.matrix(self.frame[int(rows)])[0]
        elif isinstance(rows, slice):
            found = self.compiled.matrix(self.frame[rows])
        else:
            places = np.asarray(rows)
            found = self.compiled.matrix(self.frame[places] if places.dtype != bool else self.frame.filter(places))
        return found[(..., *columns)] if columns else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        return np.asarray(self[:], dtype=dtype)


def fit_features(spec: ModelSpec, frame: pl.DataFrame, base: Path = Path()) -> FeatureSet:
    """Infer the kinds and freeze the dictionaries from a training table; `base` is the spec's directory.

    Raises DataError for a table that lacks a column, SpecError or FunctionError for a feature that makes no sense.
    """
    schema = infer_schema(spec, frame)
    kinds = {name: _kind(name, feature, frame, schema.dtypes, base) for name, feature in spec.features.items()}
    names, time = tuple(spec.features), spec.event_time
    draft = FeatureSet(names=names, kinds=kinds, specs=spec.features, categories={}, event_time=time, dtypes=schema.dtypes)
    compiled = compile_features(draft, base)
    categories, values = dict[str, tuple[str, ...]](), ReadableColumns(compiled, frame)
    for name in names:
        column = values[name]
        if spec.features[name].operation == "function":
            _refuse_neighbours(name, compiled.only(name), frame, column)
        if kinds[name] == "categorical":
            categories[name] = top_categories(column)
    return draft.model_copy(update={"categories": categories})


def compile_features(features: FeatureSet, base: Path) -> CompiledFeatures:
    """Compile to polars; `base` is the directory that holds the user functions. Raises SpecError or FunctionError."""
    return CompiledFeatures(features, tuple(_compile_feature(name, features, base) for name in features.names))


def _compile_feature(name: str, features: FeatureSet, base: Path) -> pl.Expr:
    """One feature as an expression: Float64 without NaN or infinity, or String."""
    spec, kind = features.specs[name], features.kinds[name]
    if spec.operation == "function":
        value = _call_function(name, spec, base)
        is_text = not _result_type(value, spec.of_columns, features.dtype).is_float()
    else:
        value, is_text = _VALUES[spec.operation](name, spec, features), spec.operation in ("column", "cross")
    if kind == "categorical" and is_text:
        return value.cast(pl.String).alias(name)
    number = value.cast(pl.Float64)
    finite = pl.when(number.is_finite()).then(number).otherwise(None)
    return (finite if kind == "numeric" else float_text(finite)).alias(name)


def _call_function(name: str, spec: FeatureSpec, base: Path) -> pl.Expr:
    """The expression a user function makes of its columns; raises FunctionError when it is none."""
    function = load_function(str(spec.function), base)
    try:
        value = function(*(pl.col(column) for column in spec.of_columns))
    except Exception as error:
        raise FunctionError(f"feature {name!r}: {spec.function} fails: {type(error).__name__}: {error}") from error
    if not isinstance(value, pl.Expr):
        raise FunctionError(f"feature {name!r}: {spec.function} must return a polars expression, got {value!r:.80}")
    return value


def _result_type(value: pl.Expr, columns: tuple[str, ...], dtype: Callable[[str], Dtype]) -> pl.DataType:
    """Type of an expression over columns of these contract types; raises FunctionError when it does not fit them."""
    empty = pl.DataFrame(schema={column: POLARS[dtype(column)] for column in columns})
    try:
        return empty.select(value.alias("value")).dtypes[0]
    except pl.exceptions.PolarsError as error:
        raise FunctionError(f"a function cannot be applied to {', '.join(columns)}: {error}") from error


def _numeric(column: str, features: FeatureSet) -> pl.Expr:
    """A source column as Float64; a time as seconds since 1970."""
    dtype = features.dtype(column)
    if dtype == "string":
        raise SpecError(f"column {column!r} holds texts and is used as a number; give the feature another column")
    return _seconds(pl.col(column).cast(pl.Int64)) if dtype == "datetime" else pl.col(column).cast(pl.Float64)


def _seconds(microseconds: pl.Expr) -> pl.Expr:
    """Whole microseconds as seconds: whole seconds exactly, and without a division that polars may round its own way."""
    return (microseconds // MICROSECONDS).cast(pl.Float64) + (microseconds % MICROSECONDS).cast(pl.Float64) * MICROSECOND


def _text(column: str, features: FeatureSet) -> pl.Expr:
    """A source column as a category: 1 and 1.0 are "1", a bool is "true" or "false"."""
    dtype = features.dtype(column)
    if dtype == "datetime":
        raise SpecError(f"column {column!r} holds times and is used as a category; use date_part")
    return float_text(pl.col(column)) if dtype == "float" else pl.col(column).cast(pl.String)


def single_column(name: str, spec: FeatureSpec, event_time: str) -> str:
    """The one column that a date part or bins read; raises SpecError when `of` names several."""
    columns = feature_columns(name, spec, event_time)
    if len(columns) != 1:
        raise SpecError(f"feature {name!r}: {spec.operation} reads one column; `of` names {', '.join(columns)}")
    return columns[0]


def _column(name: str, spec: FeatureSpec, features: FeatureSet) -> pl.Expr:
    column = single_column(name, spec, features.event_time)
    return _text(column, features) if features.kinds[name] == "categorical" else _numeric(column, features)


def _date_part(name: str, spec: FeatureSpec, features: FeatureSet) -> pl.Expr:
    column = single_column(name, spec, features.event_time)
    if features.dtype(column) != "datetime":
        raise SpecError(f"feature {name!r}: column {column!r} holds no times")
    try:
        time = pl.col(column).dt.convert_time_zone(ZoneInfo(spec.time_zone).key) if spec.time_zone else pl.col(column)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        wrong = f"there is no time zone {spec.time_zone!r}; write one such as America/New_York"
        raise SpecError(f"feature {name!r}: {wrong}") from None
    if spec.date_part == "minute_of_day":
        return time.dt.hour().cast(pl.Float64) * 60 + time.dt.minute()
    part: pl.Expr = getattr(time.dt, str(spec.date_part))()  # polars' own name; Monday is 1, weeks are those of ISO 8601
    return part.cast(pl.Float64)


def _difference(_name: str, spec: FeatureSpec, features: FeatureSet) -> pl.Expr:
    if all(features.dtype(column) == "datetime" for column in spec.difference or ()):
        first, second = (pl.col(column).cast(pl.Int64) for column in spec.difference or ())
        return _seconds(first - second)
    return reduce(pl.Expr.sub, (_numeric(column, features) for column in spec.difference or ()))


def _bins(name: str, spec: FeatureSpec, features: FeatureSet) -> pl.Expr:
    number = _numeric(single_column(name, spec, features.event_time), features)
    return sum(((number >= edge).cast(pl.Float64) for edge in spec.bins or ()), start=number * 0.0)


def _escape(part: pl.Expr) -> pl.Expr:
    doubled = part.str.replace_all("\\", "\\\\", literal=True)
    return doubled.str.replace_all(CROSS_SEPARATOR, "\\" + CROSS_SEPARATOR, literal=True)


_VALUES: dict[str, Callable[[str, FeatureSpec, FeatureSet], pl.Expr]] = {
    "column": _column,
    "date_part": _date_part,
    "difference": _difference,
    "ratio": lambda _name, spec, features: reduce(pl.Expr.truediv, (_numeric(one, features) for one in spec.ratio or ())),
    "bins": _bins,
    "log": lambda _name, spec, features: _numeric(str(spec.log), features).log1p(),
    "cross": lambda _name, spec, features: pl.concat_str(
        [_escape(_text(column, features)) for column in spec.cross or ()], separator=CROSS_SEPARATOR, ignore_nulls=False
    ),
}


def _kind(name: str, spec: FeatureSpec, frame: pl.DataFrame, dtypes: Dtypes, base: Path) -> Kind:
    match spec.operation:
        case "cross":
            if spec.kind == "numeric":
                raise SpecError(f"feature {name!r}: a cross is categorical; leave its kind out")
            return "categorical"
        case "column":
            return infer_kind(spec, frame.schema[(*spec.of_columns, name)[0]])
        case "function":
            value = _call_function(name, spec, base)
            return infer_kind(spec, _result_type(value, spec.of_columns, lambda column: dtypes.get(column, "datetime")))
        case _:
            return spec.kind or "numeric"


def _refuse_neighbours(name: str, compiled: CompiledFeatures, frame: pl.DataFrame, column: pl.Series) -> None:
    """A function that depends on other rows would mean something else for a single request."""
    for row in range(0, frame.height, max(1, frame.height // 5)):
        if not compiled.table(frame[row : row + 1])[name].equals(column[row : row + 1]):
            raise FunctionError(f"feature {name!r} gives another value for row {row} alone; it may not look at other rows")


def top_categories(values: pl.Series) -> tuple[str, ...]:
    """The dictionary of a column: its categories sorted by name; the most frequent ones when there are too many."""
    counts = values.drop_nulls().alias("category").value_counts(name="count").sort("count", "category", descending=[True, False])
    return tuple(counts["category"].head(MAX_CATEGORIES).sort())
