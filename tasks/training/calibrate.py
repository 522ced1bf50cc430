"""Calibrate: bounds for the monitor's signals from the newest training windows, each judged by a model that has not seen it.

Block cross-fit: whole windows are left out, a few at a time, and what the signals say about them is what an ordinary
window says. Never single rows: rows of one week resemble each other, and bounds from them fire in nearly every week.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from prefect import get_run_logger

from monitoring.calibration import MIN_BLOCKS, Calibration, block_values, blocks, inherit_bounds, missing_bounds_warning
from monitoring.calibration import calibrate as bounds_of
from perennial.model import Model
from perennial.profile import fit_profile
from perennial.signals import SignalValues
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.fit import Fitted, has_contrast
from tasks.training.training_data import TrainingData

FOLDS = (2, 4)
"""Least and most trainings a calibration may cost."""

LEFT_OUT = 0.25
"""Share of the rows that a training should leave out at most: a model of much fewer rows says nothing about this one."""

_TICK = timedelta(microseconds=1)

Mask = NDArray[np.bool_]


def calibrate_bounds(job: Job, draft: Model, data: TrainingData, fitted: Fitted) -> Calibration:
    """Bounds of a draft; none where the training rows fill fewer than three judgeable windows."""
    inside = list(_judgeable(job, data))
    if len(inside) < MIN_BLOCKS:
        return Calibration(bounds={}, blocks=len(inside))
    folds = _folds(int(np.sum(inside)) / len(data.table), len(inside))
    values = [value for fold in range(folds) for value in _fold_values(draft, data, fitted, inside[fold::folds])]
    return Calibration(bounds=bounds_of(job.spec, values), blocks=len(inside))


def _folds(share: float, count: int) -> int:
    """How many trainings share `count` blocks that hold `share` of all rows: few where the blocks are a small part."""
    least, most = FOLDS
    return min(max(math.ceil(share / LEFT_OUT), least), most, count)


def _judgeable(job: Job, data: TrainingData) -> Iterator[Mask]:
    """The rows of each newest window that the monitor would judge, as masks over the training rows."""
    spec = job.spec
    for window in blocks(data.until + _TICK, spec.window.length, spec.signals.blocks, data.since):
        start, end = (np.datetime64(moment.replace(tzinfo=None), "us") for moment in (window.start, window.end))
        rows: Mask = (data.table.times >= start) & (data.table.times < end)
        if rows.sum() >= spec.window.min_rows:
            yield rows


def _fold_values(draft: Model, data: TrainingData, fitted: Fitted, left_out: Sequence[Mask]) -> Iterator[SignalValues]:
    """What the signals say about blocks of rows, by a model fitted in the same way to all other rows."""
    kept = ~np.logical_or.reduce(left_out)
    if not has_contrast(data.table.labels[kept]):
        return
    estimator = fitted.trainer.fit(fitted.params, fitted.rounds, np.flatnonzero(kept))
    features = data.compiled.features
    importance = dict(zip(features.names, estimator.importance(), strict=True))
    profile = fit_profile(data.values.filter(pl.Series(kept)), features.kinds, importance)
    judge = replace(draft, estimator=estimator, profile=profile)
    yield from (block_values(judge, data.frame.filter(pl.Series(rows))) for rows in left_out)


@local_task("calibrate")
def calibrate(job: Job, draft: Model, data: TrainingData, fitted: Fitted, champion: Model | None = None) -> Calibration:
    """Calibrate, with the champion's bounds where there are too few blocks; warn where that leaves none, or not own ones."""
    found = inherit_bounds(job.spec, calibrate_bounds(job, draft, data, fitted), champion)
    if (warning := missing_bounds_warning(job.spec, found)) is not None:
        get_run_logger().warning(warning)
    return found
