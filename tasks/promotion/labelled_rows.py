"""Labelled rows: what there is to learn from by now, with the newest apart."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from monitoring.archive import Archive
from monitoring.policy import RetrainRequest
from monitoring.window import watermark
from perennial.model import Model
from tasks.data.datasets import Dataset
from tasks.data.retraining_data import NewClass, build_dataset, find_new_classes, select_rows, validate_log
from tasks.data.source_rows import read_sources
from tasks.data.validate import Checks, validate
from tasks.job import Job
from tasks.training.split import Split, split_newest
from tasks.training.training_data import TrainingData, build_training_data


@dataclass(frozen=True)
class LabelledRows:
    """Every labelled row by now, sorted in time; `split` sets the newest apart, which the judge does not learn."""

    event_time: str
    dataset: Dataset
    rows: pl.DataFrame
    checks: Checks
    split: Split
    label_texts: tuple[str, ...]
    new_classes: tuple[NewClass, ...] = ()

    @property
    def until(self) -> datetime:
        """Event time of the newest row."""
        newest: datetime = self.rows[-1, self.event_time]
        return newest


def read_labelled_rows(job: Job, champion: Model, request: RetrainRequest | None = None) -> LabelledRows:
    """Base dataset and labelled log, or the sources up to the request's moment, as the spec says; validated.

    The newest rows are `gate.holdout`, one window unless the spec says otherwise.
    """
    time, texts = job.spec.event_time, champion.card.label_texts
    if job.spec.retrain.rows == "sources":
        dataset = read_sources(job, moment_of(job, champion, request))
        rows, checks = validate(job, dataset)
        texts = checks.label_texts
    else:
        dataset = build_dataset(job, champion)
        rows, checks = validate_log(job, dataset)
    split = split_newest(rows, time, job.spec.judged_length)
    return LabelledRows(time, dataset.without_rows(), rows, checks, split, texts, find_new_classes(job, rows, champion))


def moment_of(job: Job, champion: Model, request: RetrainRequest | None) -> datetime:
    """Event time up to which a retraining may know the sources: that at which the request's window was judged.

    Without a request it is the watermark of the prediction log, which in a replay lies in the past; where the service was not
    asked anything, it is now.
    """
    if request is not None:
        return request.window_end + job.spec.window.lateness
    return watermark(Archive(job.home, job.spec.task, champion.card.schema_, url=job.archive_url).newest(job.now)) or job.now


def selected_data(job: Job, known: LabelledRows, frame: pl.DataFrame) -> TrainingData:
    """Of some of the rows those that a retraining learns, ready to fit."""
    selected = select_rows(job, frame, known.new_classes)
    return build_training_data(job, selected.rows, known.dataset.manifest, selected.weights, known.label_texts)
