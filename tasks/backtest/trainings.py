"""The training of one boundary: what it learns from, the estimator that comes of it, and the files in which both are kept."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import fsspec
import polars as pl

from perennial import atomic_files as files
from perennial.base import Stored, StoredModel, read_stored
from perennial.errors import TrainingError
from perennial.learner import Estimator, load_learner
from perennial.spec import ModelSpec
from tasks.backtest.history import History
from tasks.data.retraining_data import NewClass, select_rows
from tasks.job import Job
from tasks.training.fit import make_trainer
from tasks.training.training_data import TrainingData, build_training_data


def fitted_at(history: History, boundary: int, rounds: int) -> tuple[TrainingData, Estimator]:
    """The model of a boundary and what it learnt from; fitted once, and read from its file after that."""
    job, data = single_threaded(history.job), training_data(history, boundary)
    learner = load_learner(job.spec.learner)
    file = history.directory / f"{boundary}-{rounds}-{learner.file}"
    if file.exists():
        return data, learner.from_bytes(file.read_bytes())
    estimator = make_trainer(job, data).fit(history.params, rounds)
    files.replace(fsspec.filesystem("file"), str(file), estimator.to_bytes())
    return data, estimator


def training_data(history: History, boundary: int) -> TrainingData:
    """What a retraining at a boundary would learn from."""
    job, rows = history.job, history.known(boundary)
    selected = select_rows.fn(job, rows, _not_learnt(history, rows))
    require_contrast(job.spec, selected.rows, history.windows[boundary].start)
    return build_training_data.fn(job, selected.rows, history.manifest, selected.weights)


def _not_learnt(history: History, rows: pl.DataFrame) -> tuple[NewClass, ...]:
    """Classes that came after the first boundary and were not seen often enough by now."""
    spec = history.job.spec
    if spec.task != "multiclass" or spec.classes:
        return ()
    known = history.known(history.first)[spec.target].unique().to_list()
    new = rows.filter(~pl.col(spec.target).is_in(known))[spec.target].value_counts()
    return tuple(NewClass(name=name, rows=count, learnt=False) for name, count in new.iter_rows() if count < spec.label_min_count)


def require_contrast(spec: ModelSpec, rows: pl.DataFrame, start: datetime) -> None:
    if rows[spec.target].n_unique() < 2:
        raise TrainingError(
            f"target {spec.target!r} is the same in all {rows.height:,} rows that a training at {start:%Y-%m-%d} would learn "
            "from: start the backtest later, or learn from more windows"
        )


def single_threaded(job: Job) -> Job:
    """A job whose trainings take one thread each, since several of them run at once."""
    return replace(job, threads=1)


def read(kind: type[Stored], file: Path) -> Stored | None:
    return read_stored(kind, file.read_bytes(), str(file)) if file.exists() else None


def write(file: Path, value: StoredModel) -> None:
    files.replace(fsspec.filesystem("file"), str(file), value.model_dump_json().encode())
