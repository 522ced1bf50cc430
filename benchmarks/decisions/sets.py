"""The sets of the benchmark: a spec each, where the simulated life begins, and how long windows are; and the null of each.

The null of a set are its rows in random order over the same event times: what changes then is the number of rows known, nothing
else. Matrices are kept below `var/`, so that a second run only reads them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from tasks.backtest.history import plan_history
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.train_matrix import in_threads, search_once, train_matrix
from tasks.data.datasets import Manifest, content_fingerprint
from tasks.data.ingest import assemble
from tasks.data.validate import check_table
from tasks.job import Job, load_job

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "var" / "bench-decisions"
LABEL_DELAY = timedelta(days=1)
"""How long after its event a label comes, on every set."""

WEEKLY = {"length": timedelta(days=7), "min_rows": 100}
"""A week of hours has fewer rows than the default asks for."""


@dataclass(frozen=True)
class Set:
    """One table of the benchmark; without `start` a sixth of its history is the past."""

    name: str
    spec: Path
    start: datetime | None = None
    window: Mapping[str, Any] = field(default_factory=dict)

    def job(self) -> Job:
        """A job whose state is apart from that of any other set."""
        environ = {**os.environ, "PERENNIAL_HOME": str(HOME / self.name)}
        job = load_job(self.spec, environ, datetime.now(UTC))
        window = job.spec.window.model_copy(update=dict(self.window))
        return replace(job, spec=job.spec.model_copy(update={"window": window}))


SETS = (
    Set("flights", ROOT / "examples" / "flights.toml", datetime(2013, 3, 1, tzinfo=UTC)),
    Set("bike-7d", ROOT / "examples" / "bike_sharing.toml", window=WEEKLY),
    Set("bike-14d", ROOT / "examples" / "bike_sharing.toml"),
    Set("electricity", ROOT / "benchmarks" / "decisions" / "electricity.toml"),
)


def matrix_of(one: Set, *, shuffled: bool, data: str | None = None) -> tuple[Job, LossMatrix]:
    """Train or read the matrix of a set, or of its null."""
    job = one.job()
    table = assemble(job.spec, job.base, job.environ)
    rows, _ = check_table(table.frame, job.spec, None, job.now, table.unread)
    if shuffled:
        rows = shuffle(rows, job.spec.event_time)
    time = rows[job.spec.event_time]
    manifest = Manifest(
        fingerprint=content_fingerprint(rows),
        rows=rows.height,
        since=time[0],
        until=time[-1],
        columns={},
        origin=(one.name,),
        created_at=job.now,
    )
    history = search_once(plan_history(job, rows, manifest, one.start, LABEL_DELAY))
    return job, train_matrix(history.with_data(data or job.spec.retrain.data), in_threads)


def shuffle(rows: pl.DataFrame, event_time: str, seed: int = 7) -> pl.DataFrame:
    """The rows in random order, the times as they were."""
    return rows.sample(fraction=1, shuffle=True, seed=seed).with_columns(rows[event_time])
