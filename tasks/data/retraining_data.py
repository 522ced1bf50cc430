"""Retraining data of the log: the base dataset of the spec's input contract and the labelled rows of the prediction log, no more.

No row that the service had not predicted and no label that it had not received by now: a replay must not see its future.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from monitoring.archive import Archive, as_table
from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.input_contract import InputContract
from perennial.labels import LabelCodec, similar_class
from perennial.log_columns import ID
from perennial.model import Model
from perennial.schema import cast_frame, infer_schema
from perennial.spec import ModelSpec
from perennial.spec_policy import RetrainSpec
from tasks.data.datasets import Dataset, base_dataset, store_dataset
from tasks.data.validate import Checks, check_dataset, validate
from tasks.job import Job
from tasks.task_defaults import local_task

MODES = ("all", "trailing", "weighted")
"""The ways to choose the rows that a retraining learns; `retrain.data = "auto"` begins with the first."""


def learning(job: Job, rows: RetrainSpec) -> Job:
    """The job with another choice of rows to learn from."""
    return replace(job, spec=job.spec.model_copy(update={"retrain": rows}))


def in_mode(job: Job, mode: str) -> Job:
    """The job learning in another of the MODES."""
    return learning(job, job.spec.retrain.model_copy(update={"data": mode}))


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from, and a weight for each, or None where all weigh the same."""

    rows: pl.DataFrame
    weights: Floats | None


class NewClass(FrozenModel):
    """A class among the labels that the champion does not know; `similar` is a known one that it probably misspells."""

    name: str
    rows: int
    learnt: bool
    similar: str | None = None

    def __str__(self) -> str:
        what = f"probably a misspelling of {self.similar!r}" if self.similar else "new"
        return f"{self.name!r} ({self.rows} rows, {what}, {'learnt' if self.learnt else 'not learnt'})"


@local_task("build dataset")
def build_dataset(job: Job, champion: Model) -> Dataset:
    """Base dataset and labelled log, one above the other in time, kept as a dataset version of their own.

    Both have the columns of the spec's contract: those that the log did not have yet are null in its rows.
    """
    base = base_dataset(job.home)
    usable, _ = check_dataset(job, base)
    trained = InputContract.of(champion.card.spec, champion.card.features.kinds)
    schema = infer_schema(job.spec, usable) if trained.changes(job.spec) else champion.card.schema_
    logged = Archive(job.home, job.spec.task, schema, url=job.archive_url).labelled().collect()
    table = as_table(logged, schema, labels=True)
    if job.spec.id:
        table = table.with_columns(logged[ID].alias(job.spec.id))
    merged = merge(job.spec, cast_frame(usable, schema), table)
    origin = (f"dataset {base.manifest.fingerprint}", f"prediction log ({logged.height} labelled rows)")
    return store_dataset(merged, job.spec.event_time, job.home, origin, job.now)


def merge(spec: ModelSpec, base: pl.DataFrame, logged: pl.DataFrame) -> pl.DataFrame:
    """The columns a model needs of both tables, sorted in time; of one row in both the log's copy gives way.

    Rows of one id and time are the same row; without an id in the spec, those of one time that have the same inputs, as far as
    every row of the log has them.
    """
    wanted = [column for column in dict.fromkeys((spec.id, spec.event_time, spec.target, *spec.inputs)) if column]
    older, newer = base.select(wanted), logged.select(wanted)
    if spec.id:
        older = older.with_columns(pl.col(spec.id).cast(pl.String))
    same = [spec.id] if spec.id else [column for column in spec.inputs if newer[column].null_count() == 0]
    newer = newer.join(older, on=[*same, spec.event_time], how="anti", maintain_order="left")
    return pl.concat([older, newer]).sort(spec.event_time, nulls_last=True, maintain_order=True)


@local_task("validate")
def validate_log(job: Job, dataset: Dataset) -> tuple[pl.DataFrame, Checks]:
    """Validate a retraining's rows; only columns that the log has are checked, for clients do not send the others."""
    spec = job.spec
    own = {spec.id, spec.event_time, spec.target, *spec.inputs}
    columns = {name: check for name, check in spec.checks.columns.items() if name in own}
    checks = spec.checks.model_copy(update={"columns": columns})
    # Labels are in their stored form here, an id may have been asked about again, and new classes are judged by themselves.
    changed = {"checks": checks, "id": None, "positive": None, "classes": ()}
    return validate.fn(replace(job, spec=spec.model_copy(update=changed)), dataset)


@local_task("new classes")
def find_new_classes(job: Job, frame: pl.DataFrame, champion: Model) -> tuple[NewClass, ...]:
    """The classes of the rows' labels that the champion does not know, and which of them may be learnt.

    Those that the spec declares may; of others those that are no probable misspelling and were seen often enough.
    """
    spec, found = job.spec, []
    for name, rows in champion.label_codec.unknown(frame[spec.target]).items():
        similar = similar_class(name, champion.card.classes)
        learnt = name in spec.classes if spec.classes else similar is None and rows >= spec.label_min_count
        found.append(NewClass(name=name, rows=rows, learnt=learnt, similar=similar))
    return tuple(found)


@local_task("select rows")
def select_rows(job: Job, frame: pl.DataFrame, new_classes: tuple[NewClass, ...] = ()) -> TrainingRows:
    """All rows, those of the trailing windows, or all with weights; without those of new classes that may not be learnt.

    A weight halves with each half-life of age; their mean is 1, so that regularisation keeps its meaning.
    """
    retrain, time = job.spec.retrain, pl.col(job.spec.event_time)
    if left_out := [one.name for one in new_classes if not one.learnt]:
        frame = frame.filter(~LabelCodec(job.spec.task).parse_column(frame[job.spec.target]).is_in(left_out))
    if retrain.data == "trailing":
        return TrainingRows(frame.filter(time > time.max() - retrain.windows * job.spec.window.length), None)
    if retrain.data in ("all", "auto"):
        return TrainingRows(frame, None)
    seconds = frame.select((time.max() - time).dt.total_seconds()).to_series().to_numpy()
    weights = np.exp2(-seconds / retrain.half_life.total_seconds())
    return TrainingRows(frame, np.asarray(weights / weights.mean()))
