"""Evaluate: how good a model is on rows it has not seen: metrics, calibration, and the same by slice."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.labels import LabelCodec
from perennial.metrics import Metrics, calibration_bins, score
from perennial.model_card import Slice
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.fit import Fitted

MOST_SLICES = 20
"""Values shown per slice column, the most frequent ones."""


class CalibrationRow(FrozenModel):
    """Predictions of similar size: their mean, and the mean of what came true.

    binary: probability and frequency; regression: prediction and value; multiclass: confidence and accuracy.
    """

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True)
class Evaluation:
    """What the test rows, from `since` on, say; labels (n,) coded and predictions (n,) or (n, classes) are kept for plots."""

    metrics: Metrics
    calibration: tuple[CalibrationRow, ...]
    slices: tuple[Slice, ...]
    labels: Floats
    predictions: Floats
    since: datetime | None = None


@local_task("evaluate")
def evaluate(job: Job, fitted: Fitted, test: pl.DataFrame) -> Evaluation:
    """Judge a fitted model on the test rows; a class that it has never seen has probability 0."""
    labels = LabelCodec(job.spec.task, fitted.classes).encode_column(test[job.spec.target])
    known = ~np.isnan(labels)
    rows, labels = test.filter(known), labels[known]
    predictions = fitted.predict(rows)
    metrics, calibration = score(job.spec.task, labels, predictions), calibration_table(labels, predictions)
    since = test[job.spec.event_time][0] if test.height else None
    return Evaluation(metrics, calibration, tuple(_slices(job, rows, labels, predictions)), labels, predictions, since)


def calibration_table(labels: Floats, predictions: Floats) -> tuple[CalibrationRow, ...]:
    """Predictions in order of size, cut into bins of equal count, against what came true."""
    bins = calibration_bins(labels, predictions)
    return tuple(CalibrationRow(predicted=predicted, observed=observed, rows=rows) for predicted, observed, rows in bins)


def _slices(job: Job, rows: pl.DataFrame, labels: Floats, predictions: Floats) -> Iterator[Slice]:
    """The metrics by value of each slice column that the table has."""
    for column in (column for column in job.spec.slices if column in rows.columns):
        texts = rows[column].cast(pl.String).fill_null("null").to_numpy()
        values, counts = np.unique(texts, return_counts=True)
        for value in values[np.argsort(-counts, kind="stable")][:MOST_SLICES]:
            inside = texts == value
            metrics = score(job.spec.task, labels[inside], predictions[inside])
            yield Slice(column=column, value=str(value), metrics=metrics)
