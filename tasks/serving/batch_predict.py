"""Batch: score a whole table with the champion, into one Parquet file."""

from pathlib import Path

import polars as pl

from perennial.errors import DataError
from perennial.model import Model
from perennial.scored_rows import score_rows
from perennial.spec import ModelSpec
from tasks.data.column_types import column_uses, type_columns
from tasks.data.datasets import write_parquet
from tasks.data.ingest import assemble, in_utc, with_row_times
from tasks.data.sources import read_source
from tasks.job import Job
from tasks.task_defaults import remote_task


@remote_task("score")
def score_table(job: Job, champion: Model, source: str | None, output: str | None) -> Path:
    """Score the rows of `source` (relative to where the flow runs), and write id, event time, score and label to `output`.

    The table holds the model's raw inputs, as a client would send them, and a CSV file is written as the spec's first source
    is. Without a table the spec's own sources are read, joined and derived as a training does. Without an output it is
    `{model}-scores.parquet`; scores of a multiclass model are a list per row.
    """
    rows = assemble(job.spec, job.base, job.environ).frame if source is None else _read_table(job, champion.card.spec, source)
    scored = score_rows(champion, rows, job.spec)
    file = Path(output or f"{job.spec.name}-scores.parquet").absolute()
    try:
        write_parquet(scored, file)
    except OSError as error:
        raise DataError(f"cannot write the scores to {file}: {error}; give another `output`") from error
    return file


def _read_table(job: Job, spec: ModelSpec, source: str) -> pl.DataFrame:
    """A table of raw inputs with their types; one without event times gets them as the spec's first source does."""
    first = next(iter(job.spec.sources.values()))
    table = first.model_copy(update={"path": source, "query": None, "connection": None, "loader": None})
    raw = read_source(source, table, Path.cwd(), job.environ)
    typed = type_columns(source, table, raw, column_uses(spec), spec.checks.max_odd_values).frame
    return in_utc(typed if spec.event_time in typed.columns else with_row_times(typed, job.spec), spec.event_time)
