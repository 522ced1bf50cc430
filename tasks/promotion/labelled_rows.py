"""Labelled rows: what there is to learn from by now, with the newest apart."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from perennial.model import Model
from tasks.data.datasets import Dataset
from tasks.data.retraining_data import NewClass, build_dataset, find_new_classes, select_rows, validate_log
from tasks.data.validate import Checks
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


def read_labelled_rows(job: Job, champion: Model) -> LabelledRows:
    """Base dataset and labelled log, validated; the newest are `gate.holdout`, one window unless the spec says otherwise."""
    dataset = build_dataset(job, champion)
    rows, checks = validate_log(job, dataset)
    time, texts = job.spec.event_time, champion.card.label_texts
    split = split_newest(rows, time, job.spec.judged_length)
    return LabelledRows(time, dataset, rows, checks, split, texts, find_new_classes(job, rows, champion))


def selected_data(job: Job, known: LabelledRows, frame: pl.DataFrame) -> TrainingData:
    """Of some of the rows those that a retraining learns, ready to fit."""
    selected = select_rows(job, frame, known.new_classes)
    return build_training_data(job, selected.rows, known.dataset.manifest, selected.weights, known.label_texts)
