"""The training report: in a page's worth of figures what a training read, learnt and decided, for the terminal.

It is written beside the model's other state when a training is over, whichever process ran it, and read by the command that
started it. Its baseline is the model that always predicts the mean (the classes' shares) of the labels that the judge has learnt.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from monitoring.calibration import missing_bounds_warning
from perennial.arrays import Floats
from perennial.base import StoredModel, read_stored
from perennial.metrics import score
from perennial.model_card import ModelCard
from perennial.spec import Task
from tasks.data.retraining_data import NewClass
from tasks.data.validate import Checks
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.promotion.labelled_rows import LabelledRows
from tasks.task_defaults import local_task


class TrainingReport(StoredModel):
    """What one training found beside what its card says, and what the gate made of it."""

    card: ModelCard
    checks: Checks
    base_rate: dict[str, float] = Field(description="share of each class among the training labels, or their mean and deviation")
    baseline: dict[str, float] = Field(description="metrics on the newest rows of what always predicts the training labels' mean")
    new_classes: tuple[NewClass, ...] = Field((), description="of the labels, which the champion does not know")
    verdict: Verdict | None = Field(description="None for a challenger about which nothing has been decided yet")
    warning: str | None = Field(description="what the monitor will not watch, and why")


def report_file(home: Path, version: int) -> Path:
    """Where a version's report lies below its model's home."""
    return home / "trainings" / f"{version}.json"


def read_training_report(home: Path, version: int) -> TrainingReport:
    """The report of a version that was trained on this machine."""
    file = report_file(home, version)
    return read_stored(TrainingReport, file.read_bytes(), str(file))


@local_task("write report")
def write_training_report(job: Job, challenger: Challenger, known: LabelledRows, verdict: Verdict | None) -> None:
    """Write down what a training found; it is over when this is called."""
    card, evaluation, labels = challenger.model.card, challenger.evaluation, challenger.data.table.labels
    constant = constant_predictions(card.task, challenger.older.table.labels, evaluation.predictions)
    report = TrainingReport(
        card=card,
        checks=known.checks,
        new_classes=known.new_classes,
        base_rate=base_rate(card.task, card.classes, labels),
        baseline=score(card.task, evaluation.labels, constant).values,
        verdict=verdict,
        warning=missing_bounds_warning(card.spec, challenger.calibration),
    )
    _write(job.home, report)


@local_task("add verdict")
def add_verdict(job: Job, version: int, verdict: Verdict) -> None:
    """Add what the gate decided to the report of a version that was trained on this machine."""
    if report_file(job.home, version).exists():
        _write(job.home, read_training_report(job.home, version).model_copy(update={"verdict": verdict}))


def _write(home: Path, report: TrainingReport) -> None:
    file = report_file(home, report.card.version)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.model_dump_json(indent=1), encoding="utf-8")


def base_rate(task: Task, classes: tuple[str, ...], labels: Floats) -> dict[str, float]:
    """What is known of the target without any input."""
    if task == "regression":
        return {"mean": float(labels.mean()), "deviation": float(labels.std())}
    named = classes or ("false", "true")
    shares = np.bincount(labels.astype(int), minlength=len(named)) / max(labels.size, 1)
    return dict(zip(named, shares.tolist(), strict=True))


def constant_predictions(task: Task, labels: Floats, like: Floats) -> Floats:
    """Predictions of the shape of `like` that say the same of every row: the mean of `labels`, or the share of each class."""
    constant = np.bincount(labels.astype(int), minlength=like.shape[1]) / labels.size if task == "multiclass" else labels.mean()
    return np.broadcast_to(constant, like.shape)
