"""Ingest: the spec's sources joined, derived and sorted in time, kept as a dataset version."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from perennial.errors import DataError
from perennial.spec import ModelSpec
from perennial.spec_sources import JoinSpec, SourceSpec
from tasks.data.datasets import Dataset, store_dataset
from tasks.data.sources import read_source
from tasks.job import Job
from tasks.task_defaults import remote_task


@remote_task("ingest")
def ingest(job: Job, until: str | None) -> Dataset:
    """Read, join, derive and sort the spec's sources; keep the rows before `until` (ISO time, excluded) as a dataset."""
    frame = assemble(job.spec, job.base, job.environ)
    bounded = before(frame, job.spec.event_time, parse_until(until))
    return store_dataset(bounded, job.spec.event_time, job.home, tuple(map(_origin, job.spec.sources.values())), job.now)


def assemble(spec: ModelSpec, base: Path, environ: Mapping[str, str]) -> pl.DataFrame:
    """The whole table the spec describes, sorted by event time (UTC, microseconds), rows without one last.

    Raises SourceError for a source that cannot be read, DataError for a join, expression or event time that does not fit.
    """
    frames = {name: _plain(read_source(name, source, base, environ)) for name, source in spec.sources.items()}
    base_name, joined = next(iter(frames.items()))
    for join in spec.joins:
        joined = _join(joined, frames[join.source], join, base_name)
    derived = _derive(joined, spec.derive)
    return _sort_in_time(derived, spec.event_time)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts however they are coded as texts, without columns of Python objects, which no step could store."""
    return frame.select(pl.exclude(pl.Object)).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def before(frame: pl.DataFrame, event_time: str, until: datetime | None) -> pl.DataFrame:
    """Rows before `until`; rows without a time stay, for validation to report them."""
    if until is None:
        return frame
    kept = frame.filter((pl.col(event_time) < until) | pl.col(event_time).is_null())
    if kept.is_empty():
        raise DataError(f"no row lies before {until:%Y-%m-%d %H:%M}: {event_time} starts at {frame[event_time].min()!s}")
    return kept


def parse_until(text: str | None) -> datetime | None:
    """An ISO date or time; a naive one is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"until={text!r} is not a date; write one such as 2013-03-01 or 2013-03-01T06:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def in_utc(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Turn dates, times and ISO texts of `column` into Datetime(us, UTC); a text that is no time becomes null."""
    if column not in frame.columns:
        raise DataError(f"event-time column {column!r} is not in the table; it has {', '.join(frame.columns)}")
    dtype, time = frame.schema[column], pl.col(column)
    if dtype == pl.String:
        time = time.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    elif dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None):
        time = time.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    elif isinstance(dtype, pl.Datetime):
        time = time.cast(pl.Datetime("us", dtype.time_zone)).dt.convert_time_zone("UTC")
    else:
        raise DataError(f"event-time column {column!r} is {dtype}, not a time; build one under [derive] in the spec")
    return frame.with_columns(time)


def _join(left: pl.DataFrame, right: pl.DataFrame, join: JoinSpec, base_name: str) -> pl.DataFrame:
    for side, frame in ((base_name, left), (join.source, right)):
        if absent := [column for column in join.on if column not in frame.columns]:
            raise DataError(f"cannot join {join.source!r} on {', '.join(absent)}: {side!r} has only {', '.join(frame.columns)}")
    clash = sorted((set(left.columns) & set(right.columns)) - set(join.on))
    extra = right.drop(clash)
    if extra.select(join.on).is_duplicated().any():
        raise DataError(
            f"{join.source!r} has several rows for one {', '.join(join.on)}: the join would multiply rows; make it unique"
        )
    try:
        how: Literal["left", "inner"] = "inner" if join.how.startswith("inner") else "left"
        return left.join(extra, on=list(join.on), how=how, maintain_order="left")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"cannot join {join.source!r} on {', '.join(join.on)}: {error}") from error


def _derive(frame: pl.DataFrame, expressions: Mapping[str, str]) -> pl.DataFrame:
    for column, expression in expressions.items():
        try:
            frame = frame.with_columns(pl.sql_expr(expression).alias(column))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"derive.{column} = {expression!r} cannot be computed: {error}") from error
    return frame


def _sort_in_time(frame: pl.DataFrame, event_time: str) -> pl.DataFrame:
    if frame.is_empty():
        raise DataError("the sources hold no rows: check the paths, the query and the joins of the spec")
    timed = in_utc(frame, event_time)
    if timed[event_time].null_count() == timed.height:
        examples = frame[event_time].drop_nulls().head(3).to_list()
        raise DataError(f"no value of event-time column {event_time!r} is a time (such as {examples}); use ISO 8601 or [derive]")
    return timed.sort(event_time, nulls_last=True, maintain_order=True)


def _origin(source: SourceSpec) -> str:
    return source.path or source.loader or f"query on {source.connection}"
