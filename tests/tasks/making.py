"""What tests of steps and flows work on: a job in a directory of its own, and a log of what a service was asked and told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from monitoring.archive import Archive
from perennial.model import Model
from perennial.record import LabelBatch, PredictionBatch
from perennial.spec import ModelSpec, Task
from tasks.data.datasets import store_dataset
from tasks.job import Job, load_job
from tasks.training.training_data import TrainingData, build_training_data
from tests.monitoring.streams import add_labels, add_predictions
from tests.support.models import START, small_frame, write_small

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_job(directory: Path, task: Task = "binary", frame: pl.DataFrame | None = None) -> Job:
    """A job on the small spec and table in `directory`, with its state there too."""
    return load_job(write_small(directory, task, frame), {"PERENNIAL_HOME": str(directory / "var")}, NOW)


def make_training(job: Job, frame: pl.DataFrame) -> TrainingData:
    """TrainingData of all rows of a frame."""
    return build_training_data.fn(job, frame, store_dataset(frame, job.spec.event_time, job.home, ("test",), NOW).manifest)


def later_frame(task: Task, rows: int, seed: int = 7, *, flipped: bool = False) -> pl.DataFrame:
    """Rows that follow on `small_frame(task)`; flipped, the truth is the opposite of what the first rows teach."""
    frame = small_frame(task, rows, seed, START + timedelta(hours=1_000))
    if not flipped:
        return frame
    return frame.with_columns(-pl.col("amount"), shop=pl.col("shop").replace({"north": "south", "south": "north"}))


def log_rows(job: Job, champion: Model, frame: pl.DataFrame, *, labelled: bool = True) -> Archive:
    """Archive a frame as if the champion had answered it and its labels had been told."""
    archive = Archive(job.home, job.spec.task, champion.card.schema_)
    ids, times = tuple(frame["row_id"]), tuple(frame["asked_at"].dt.replace_time_zone("UTC"))
    columns = {name: tuple(frame[name]) for name in champion.card.schema_.names}
    scores = tuple(tuple(score) if isinstance(score, list) else score for score in champion.predict_frame(frame).tolist())
    batch = PredictionBatch(champion.card.name, champion.card.version, NOW, ids, times, columns, scores)
    add_predictions(archive, [batch])
    if labelled:
        add_labels(archive, [LabelBatch(champion.card.name, NOW, ids, tuple(frame["outcome"]), times)])
    return archive


def respecified(job: Job, **sections: dict[str, Any]) -> Job:
    """The job with other values in some sections of its spec."""
    raw = job.spec.model_dump()
    return replace(job, spec=ModelSpec.model_validate({**raw, **{name: {**raw[name], **new} for name, new in sections.items()}}))
