"""Ingest: the spec's sources read, joined, derived and sorted in time, kept as a dataset version."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from perennial.errors import DataError
from perennial.schema import cast_or_null, free_name
from perennial.spec import ModelSpec
from perennial.value_types import parse_time
from tasks.data.column_types import DERIVED, RawTable, Use, column_uses, type_columns
from tasks.data.datasets import Dataset, store_dataset
from tasks.data.joins import JoinMatch, join_source
from tasks.data.sources import read_source
from tasks.data.times import times_of_rows
from tasks.job import Job
from tasks.task_defaults import remote_task


@dataclass(frozen=True)
class Assembled:
    """The table a spec describes, sorted by event time, and what was found on the way.

    `unread` has, row by row, the text of an event time that could not be read; `odd` the texts that were read as null.
    `in_order` says whether the rows stood in order of time as they were read, `cut` whether only the first ones of the first
    source's `files` were.
    """

    frame: pl.DataFrame
    unread: pl.Series
    odd: pl.DataFrame
    joins: tuple[JoinMatch, ...]
    in_order: bool = True
    cut: bool = False
    files: int = 1


def with_table(job: Job, table: str | None) -> Job:
    """The job with this Parquet file in place of the spec's first source; the others are joined to it as the spec says."""
    if table is None:
        return job
    first, source = next(iter(job.spec.sources.items()))
    mine = source.model_copy(update={"path": table, "query": None, "connection": None, "loader": None})
    return replace(job, spec=job.spec.model_copy(update={"sources": {**job.spec.sources, first: mine}}))


@remote_task("ingest")
def ingest(job: Job, until: str | None) -> Dataset:
    """Read, join, derive and sort the spec's sources; keep the rows before `until` (ISO time, excluded) as a dataset."""
    table = before(assemble(job.spec, job.base, job.environ), job.spec.event_time, parse_until(until))
    origin = tuple(source.where for source in job.spec.sources.values())
    dataset = store_dataset(table.frame, job.spec.event_time, job.home, origin, job.now)
    return replace(dataset, unread=table.unread, odd=table.odd, joins=table.joins)


def assemble(spec: ModelSpec, base: Path, environ: Mapping[str, str], rows: int | None = None) -> Assembled:
    """The whole table the spec describes, sorted by event time (UTC, microseconds), rows without one last.

    With `rows`, only the first ones of the first source. Raises SourceError for a source that cannot be read, DataError for
    values, a join, an expression or an event time that does not fit.
    """
    first, max_odd = next(iter(spec.sources)), spec.checks.max_odd_values
    raw = {name: read_source(name, one, base, environ, rows if name == first else None) for name, one in spec.sources.items()}
    raw = {name: replace(table, frame=_plain(table.frame)) for name, table in raw.items()}
    typed = {
        name: type_columns(name, spec.sources[name], table, _uses_in(name, raw, spec), max_odd) for name, table in raw.items()
    }
    frames = _with_comparable_keys(spec, raw, {name: table.frame for name, table in typed.items()})
    cut, files = raw[first].is_cut(rows), max(1, len(raw[first].files))
    del raw  # the texts of CSV files take more memory than the values that they stand for
    joined, joins = with_row_times(frames[first], spec), []
    unread = free_name("unread", (*spec.derive, *(column for frame in frames.values() for column in frame.columns)))
    joined = joined.with_columns(_texts_of(spec.event_time, typed[first].odd, joined.height).alias(unread))
    for join in spec.joins:
        joined, match = join_source(joined, frames[join.source], join, first, spec.checks.min_join_match)
        joins.append(match)
    derived = type_columns(DERIVED, spec.sources[first], _derived(joined, spec), column_uses(spec), max_odd)
    if not (late := _texts_of(spec.event_time, derived.odd, joined.height)).is_empty() and late.count():
        joined = joined.with_columns(late.alias(unread))
    timed, in_order = _in_time(joined.with_columns(derived.frame.iter_columns()), spec.event_time, unread)
    odd = pl.concat([*(table.odd for table in typed.values()), derived.odd])
    odd = odd.filter(pl.col("column") != spec.event_time)
    return Assembled(timed.drop(unread), timed[unread], odd, tuple(joins), in_order, cut, files)


def with_row_times(frame: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """Rows of the first source with event times in their order, where the spec asks for them; else the frame itself."""
    name, source = next(iter(spec.sources.items()))
    if source.row_interval is None:
        return frame
    if spec.event_time in frame.columns:
        wrong = f"source {name!r} has the column {spec.event_time!r} and time_from_rows, which makes it"
        raise DataError(f"{wrong}: take the key out, or give event_time a name that no column has")
    return frame.with_columns(times_of_rows(frame.height, source.time_start, source.row_interval).alias(spec.event_time))


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts however they are coded as texts, without columns of Python objects, which no step could store."""
    return frame.select(pl.exclude(pl.Object)).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def before(table: Assembled, event_time: str, until: datetime | None) -> Assembled:
    """Rows before `until`; rows without a time stay, for validation to report them."""
    if until is None:
        return table
    time = table.frame[event_time]
    if not (time < until).any():
        raise DataError(f"no row lies before {until:%Y-%m-%d %H:%M}: {event_time} starts at {time.min()!s}")
    kept = (time < until) | time.is_null()
    return replace(table, frame=table.frame.filter(kept), unread=table.unread.filter(kept))


def parse_until(text: str | None) -> datetime | None:
    """An ISO date or time; a naive one is UTC."""
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        raise DataError(f"until={text!r} is not a date; write one such as 2013-03-01 or 2013-03-01T06:00:00Z") from None


def in_utc(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Turn dates and times of `column` into Datetime(us, UTC); a naive time is read as UTC."""
    if column not in frame.columns:
        raise DataError(f"event-time column {column!r} is not in the table; it has {', '.join(frame.columns)}")
    dtype = frame.schema[column]
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return frame.with_columns(cast_or_null(frame[column], "datetime"))
    if dtype in (pl.String, pl.Null):
        wrong = f"is a time (such as {frame[column].drop_nulls().head(3).to_list()})"
        raise DataError(f"no value of event-time column {column!r} {wrong}; use ISO 8601, time_format or [derive]")
    raise DataError(f"event-time column {column!r} is {dtype}, not a time; build one under [derive] in the spec")


def _uses_in(name: str, raw: Mapping[str, RawTable], spec: ModelSpec) -> dict[str, Use]:
    """What the columns of one source are used for: those that a join leaves out for nothing, others under their later name."""
    uses, columns = column_uses(spec), raw[name].frame.columns
    for column in spec.sources[name].time_format:
        if column not in (*columns, *spec.derive):
            raise DataError(f"sources.{name}.time_format names {column!r}, but the columns are {', '.join(columns)}")
    uses |= dict.fromkeys(spec.derive, "none")  # what is derived is typed then, whatever it is made of
    join = next((join for join in spec.joins if join.source == name), None)
    if join is None:
        return uses
    clash = (set(columns) & set(raw[next(iter(raw))].frame.columns)) - set(join.on)
    later = {column: f"{column}{join.suffix or ''}" if column in clash else column for column in columns}
    taken = set(columns if join.columns is None else (*join.on, *join.columns))
    return {column: uses.get(later[column], "none") if column in taken else "none" for column in columns}


def _with_comparable_keys(
    spec: ModelSpec, raw: Mapping[str, RawTable], frames: dict[str, pl.DataFrame]
) -> dict[str, pl.DataFrame]:
    """The frames, in which a key that is text in one source is text in every CSV file that is joined on it."""
    for key in {key for join in spec.joins for key in join.on}:
        sides = [name for name, frame in frames.items() if key in frame.columns]
        if any(frames[name].schema[key] == pl.String for name in sides):
            texts = {name: raw[name].frame[key] for name in sides if raw[name].untyped}
            frames = {name: frame.with_columns(texts[name]) if name in texts else frame for name, frame in frames.items()}
    return frames


def _texts_of(column: str, odd: pl.DataFrame, rows: int) -> pl.Series:
    """The odd texts of a column, each in its row; null elsewhere."""
    found = odd.filter(pl.col("column") == column)
    return pl.repeat(None, rows, dtype=pl.String, eager=True).scatter(found["row"], found["text"])


def _derived(frame: pl.DataFrame, spec: ModelSpec) -> RawTable:
    """The columns under [derive]; each may use those before it."""
    for column, expression in spec.derive.items():
        try:
            frame = frame.with_columns(pl.sql_expr(expression).alias(column))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"derive.{column} = {expression!r} cannot be computed: {error}") from error
    return RawTable(frame.select(list(spec.derive)))


def _in_time(frame: pl.DataFrame, event_time: str, own: str) -> tuple[pl.DataFrame, bool]:
    """The rows in order of time, and whether they came so."""
    if event_time not in frame.columns:
        in_utc(frame.drop(own), event_time)  # says which columns there are
    if frame.is_empty():
        raise DataError("the sources hold no rows: check the paths, the query and the joins of the spec")
    timed = in_utc(frame, event_time)
    in_order = timed[event_time].drop_nulls().is_sorted()
    if in_order and not timed[event_time].null_count():
        return timed, True  # sorting would copy every column
    return timed.sort(event_time, nulls_last=True, maintain_order=True), in_order
