"""Source rows: what the sources hold of one moment, for retrainings of a spec that says `retrain.rows = "sources"`.

The sources are read as they are now and cut to what was known at the moment: rows of later events go, and a label that was not
known yet counts as none. When a label is known says the row itself (`retrain.known_at`) or a delay after its event
(`retrain.label_delay`, else `window.lateness`). What a source has overwritten since cannot be undone here: a corrected cell, a
table that is joined.
"""

from dataclasses import replace
from datetime import datetime

import polars as pl
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from perennial.errors import DataError
from perennial.schema import cast_or_null
from perennial.spec import ModelSpec
from tasks.data.datasets import Dataset, store_dataset
from tasks.data.ingest import Assembled, assemble, before
from tasks.job import Job
from tasks.task_defaults import remote_task


@remote_task("read sources")
def read_sources(job: Job, moment: datetime) -> Dataset:
    """The sources as they were known at a moment, kept as a dataset version; raises what `ingest` raises."""
    whole = assemble(job.spec, job.base, job.environ)
    table = known_by(whole, job.spec, moment)
    labels = [one.frame[job.spec.target].count() for one in (before(whole, job.spec.event_time, moment), table)]
    cut = f"{whole.frame.height - table.frame.height:,} later rows and {labels[0] - labels[1]:,} later labels left out"
    _log(f"sources read up to {moment:%Y-%m-%d %H:%M}: {table.frame.height:,} rows; {cut}")
    origin = (f"sources up to {moment.isoformat()}", cut)
    dataset = store_dataset(table.frame, job.spec.event_time, job.home, origin, job.now)
    return replace(dataset, unread=table.unread, odd=table.odd, joins=table.joins)


def known_by(table: Assembled, spec: ModelSpec, moment: datetime) -> Assembled:
    """The rows of events before a moment, without the labels that were not known at it."""
    table = before(table, spec.event_time, moment)
    target = pl.when(_is_known(table.frame, spec, moment)).then(pl.col(spec.target)).alias(spec.target)
    return replace(table, frame=table.frame.with_columns(target))


def _is_known(frame: pl.DataFrame, spec: ModelSpec, moment: datetime) -> pl.Series:
    column, delay = spec.retrain.known_at, spec.retrain.label_delay
    if column is None:
        return frame[spec.event_time] <= moment - (spec.window.lateness if delay is None else delay)
    if column not in frame.columns:
        raise DataError(f"retrain.known_at names {column!r}, which is not in the table; it has {', '.join(frame.columns)}")
    times = cast_or_null(frame[column], "datetime")
    if times.null_count() > frame[column].null_count():
        odd = frame[column].filter(times.is_null() & frame[column].is_not_null())[0]
        raise DataError(f"retrain.known_at: column {column!r} holds {odd!r:.80}, which is no time; use ISO 8601 or time_format")
    return (times <= moment).fill_null(value=False)


def _log(message: str) -> None:
    try:
        get_run_logger().info(message)
    except MissingContextError:
        return  # called as a plain function
