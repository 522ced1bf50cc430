"""Arrow: rows as an IPC stream instead of JSON, for many at once; the same rows, the same judgement, the same errors.

A column for each input of the model, and optionally `id` and `event_time`; the answer has `id`, `score`, `label` (not for
regression), `scores` (multiclass: a struct with a field for each class), `model` and `version`. Whole columns are taken
where their types leave no doubt; for anything else the rows are judged as if they had come as JSON.
"""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from perennial.errors import RequestError
from perennial.schema import POLARS, Dtype, Schema
from service.encoding import encode_frame, encode_instances
from service.ipc import check_stream
from service.layout import new_ids
from service.requests import MAX_ID, judge_rows
from service.shape import LONGEST, too_long
from service.table import Table

if TYPE_CHECKING:
    from perennial.model import Model


FIRST, LAST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the first and last that Python, and ISO 8601 with four digits, can write."""

_SECONDS = {"d": 86_400.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class _OddError(Exception):
    """Something that needs a look at single rows."""


def read_arrow(body: bytes, max_rows: int, model: "Model", now: datetime) -> Table:
    """The rows of a stream; raises RequestError naming row, column and value, or Refused (413)."""
    check_stream(body, max_rows)
    try:
        return _judge(pl.read_ipc_stream(io.BytesIO(body)), model, now)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ArithmeticError, ValueError, OSError) as error:
        raise RequestError(f"the body is not an Arrow IPC stream of plain columns ({error!s:.200})") from None


def _judge(frame: pl.DataFrame, model: "Model", now: datetime) -> Table:
    _refuse_long(frame)
    try:
        return _take(frame, model, now)
    except (_OddError, pl.exceptions.PolarsError):
        instances = judge_rows(frame.to_dicts(), model.card.schema_, now)
        return Table(instances.ids, instances.event_times, encode_instances(instances, model))


def answer_arrow(model: "Model", ids: Sequence[str], scores: Sequence[Any]) -> bytes:
    """The answer as a stream; `scores` holds a float per row, or a list of class probabilities per row."""
    card, columns = model.card, {"id": pl.Series(ids, dtype=pl.String)}
    values = np.asarray(scores, dtype=np.float64)
    if card.task == "multiclass":
        columns["score"] = pl.Series(values.max(axis=1))
        columns["label"] = pl.Series([card.classes[code] for code in values.argmax(axis=1)], dtype=pl.String)
        columns["scores"] = pl.DataFrame(values, schema=list(card.classes)).to_struct("scores")
    else:
        columns["score"] = pl.Series(values)
    if card.task == "binary":
        columns["label"] = pl.Series(values >= card.spec.label_threshold)
    frame = pl.DataFrame(columns).with_columns(model=pl.lit(card.name), version=pl.lit(card.version, dtype=pl.Int64))
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compression="uncompressed")
    return stream.getvalue()


def _refuse_long(frame: pl.DataFrame) -> None:
    for series in frame:
        if not _suits(series.dtype, "string"):
            continue
        sizes = series.cast(pl.String).str.len_chars()
        if (row := sizes.arg_max()) is not None and sizes[row] > LONGEST:
            raise too_long(row, series.name, sizes[row])


def _take(frame: pl.DataFrame, model: "Model", now: datetime) -> Table:
    schema = model.card.schema_
    ids, times = _ids(frame, schema), _times(frame, schema, now)
    beside = {"id", "event_time", schema.event_time, schema.id}.difference(schema.names)
    if set(frame.columns).difference(beside) != set(schema.names):
        raise _OddError
    inputs = pl.DataFrame([_column(frame[name], dtype) for name, dtype in schema.dtypes.items()])
    return Table(ids, tuple(times.to_list()), encode_frame(inputs, times, model))


def _column(series: pl.Series, dtype: Dtype) -> pl.Series:
    if series.dtype != pl.Null and not _suits(series.dtype, dtype):
        raise _OddError
    if dtype == "datetime" and series.dtype != pl.Null:
        return _in_utc(series)
    cast = series.cast(POLARS[dtype])
    if dtype == "float" and not cast.is_finite().all():
        raise _OddError
    return cast


def _suits(found: pl.DataType, dtype: Dtype) -> bool:
    """Whether a column of this type becomes the contract type without a look at single values."""
    match dtype:
        case "float":
            return found.is_float() or found.is_integer()
        case "int":
            return found.is_integer()
        case "bool":
            return found == pl.Boolean
        case "string":
            return isinstance(found, pl.String | pl.Categorical | pl.Enum)
        case "datetime":
            return isinstance(found, pl.Date | pl.Datetime)


def _in_utc(series: pl.Series) -> pl.Series:
    """A naive time is in UTC. Raises RequestError for one outside the years that ISO 8601 writes with four digits."""
    unit = series.dtype.time_unit if isinstance(series.dtype, pl.Datetime) else "d"
    seconds = series.to_physical().cast(pl.Float64) * _SECONDS[unit]
    outside = ~seconds.is_between(FIRST, LAST).fill_null(value=True)
    if outside.any():
        row = int(outside.arg_true()[0])
        message = f"row {row}, column {series.name!r}: the time is outside the years 1 to 9999"
        raise RequestError(message, row=row, column=series.name)
    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is not None:
        return series.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _first_of(frame: pl.DataFrame, names: Sequence[str | None]) -> pl.Series | None:
    """The one column of these that is there; which of two counts is judged row by row."""
    found = [name for name in dict.fromkeys(names) if name in frame.columns]
    if len(found) > 1:
        raise _OddError
    return frame[found[0]] if found else None


def _ids(frame: pl.DataFrame, schema: Schema) -> tuple[str, ...]:
    given = _first_of(frame, ("id", schema.id))
    if given is None:
        return new_ids(frame.height)
    if not (given.dtype == pl.String or given.dtype.is_integer()) or given.null_count():
        raise _OddError
    texts = given.cast(pl.String)
    lengths = texts.str.len_chars()
    if texts.n_unique() < len(texts) or not lengths.is_between(1, MAX_ID).all():
        raise _OddError
    return tuple(texts.to_list())


def _times(frame: pl.DataFrame, schema: Schema, now: datetime) -> pl.Series:
    given = _first_of(frame, ("event_time", schema.event_time))
    if given is None:
        return pl.repeat(now, frame.height, dtype=POLARS["datetime"], eager=True).alias(schema.event_time)
    if not isinstance(given.dtype, pl.Datetime | pl.Date):
        raise _OddError
    times = _in_utc(given).alias(schema.event_time)
    if times.null_count():
        raise _OddError
    return times
