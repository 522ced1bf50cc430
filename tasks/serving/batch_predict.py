"""Batch: score a whole table with the champion, into one Parquet or CSV file, and say what of the table could not be read."""

import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.features import ReadableColumns
from perennial.model import Model
from perennial.scored_rows import score_rows
from perennial.spec import ModelSpec
from tasks.data.column_types import TypedTable, column_uses, type_columns
from tasks.data.datasets import write_csv, write_parquet
from tasks.data.ingest import assemble, in_utc, with_row_times
from tasks.data.sources import read_source
from tasks.data.validate import Problem, odd_problems
from tasks.job import Job
from tasks.task_defaults import remote_task

logger = logging.getLogger(__name__)


class ScoredTable(FrozenModel):
    """Where the scores are, of how many rows, by which version; `problems` of values that the model scored as null."""

    file: Path
    rows: int
    version: int
    problems: tuple[Problem, ...] = ()


@remote_task("score")
def score_table(job: Job, champion: Model, source: str | None, output: str | None) -> ScoredTable:
    """Score the rows of `source` (relative to where the flow runs), and write id, event time, score and label to `output`.

    The table holds the model's raw inputs, as a client would send them, and a CSV file is written as the spec's first source
    is. Without a table the spec's own sources are read, joined and derived as a training does. Without an output it is
    `{model}-scores.parquet`; scores of a multiclass model are a list per row, in a CSV file a column for each class.
    """
    file = Path(output or f"{job.spec.name}-scores.parquet").absolute()
    if file.suffix not in (".parquet", ".pq", ".csv"):
        raise DataError(f"scores are written as .parquet or .csv, by the ending of the file: {file.name} has neither")
    table = _of_sources(job) if source is None else _read_table(job, champion.card.spec, source)
    scored = score_rows(champion, table.frame, job.spec)
    problems = tuple(_problems(champion, table, job.spec.event_time))
    for problem in problems:
        logger.warning("%s", problem)
    _write(scored, file, champion.card.classes)
    return ScoredTable(file=file, rows=table.frame.height, version=champion.card.version, problems=problems)


def _write(scored: pl.DataFrame, file: Path, classes: tuple[str, ...]) -> None:
    try:
        if file.suffix == ".csv":
            lists = [name for name, dtype in scored.schema.items() if dtype == pl.List]
            fields = {name: [f"{name}_{one}" for one in classes] for name in lists}
            write_csv(scored.with_columns(pl.col(name).list.to_struct(fields=fields[name]) for name in lists).unnest(lists), file)
        else:
            write_parquet(scored, file)
    except OSError as error:
        raise DataError(f"cannot write the scores to {file}: {error}; give another `output`") from error


def _problems(champion: Model, table: TypedTable, event_time: str) -> Iterator[Problem]:
    """Values that the model takes for null, though they were none: unreadable texts, and categories that it has not learnt."""
    yield from odd_problems(table.odd)
    known = table.odd.filter(pl.col("column") == event_time).height
    if (nulls := table.frame[event_time].null_count() - known) > 0:
        yield Problem(column=event_time, what="has no time", rows=nulls)
    unknown = champion.compiled.count_unknown(ReadableColumns(champion.compiled, table.frame))
    yield from (
        Problem(column=name, what="has a category that the model has not learnt", rows=rows)
        for name, rows in unknown.items()
        if rows
    )


def _of_sources(job: Job) -> TypedTable:
    found = assemble(job.spec, job.base, job.environ)
    return TypedTable(found.frame, found.odd)


def _read_table(job: Job, spec: ModelSpec, source: str) -> TypedTable:
    """A table of raw inputs with their types; one without event times gets them as the spec's first source does."""
    first = next(iter(job.spec.sources.values()))
    table = first.model_copy(update={"path": source, "query": None, "connection": None, "loader": None})
    raw = read_source(source, table, Path.cwd(), job.environ)
    typed = type_columns(source, table, raw, column_uses(spec), spec.checks.max_odd_values)
    timed = typed.frame if spec.event_time in typed.frame.columns else with_row_times(typed.frame, job.spec)
    return TypedTable(in_utc(timed, spec.event_time), typed.odd)
