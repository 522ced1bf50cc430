"""Calibrate: bounds for the monitor's signals from a rolling origin: the newest training windows, each judged from its past.

A judge is fitted to the rows before a few windows, with the parameters and rounds of the model itself, and measured on each as
the monitor will measure. It knows nothing from after them: a model that was trained on both sides of a window interpolates, finds
it easier than the future is, and its bounds alarm in every third ordinary window. Costs two fits by default.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from prefect import get_run_logger

from monitoring.calibration import MIN_BLOCKS, Calibration, blocks, inherit_bounds, measure_block, missing_bounds_warning
from monitoring.calibration import calibrate as bounds_of
from monitoring.measurement import Measurement
from perennial.estimates import fit_recalibration
from perennial.model import Model
from perennial.spec import ModelSpec
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.fit import Fitted, has_contrast
from tasks.training.training_data import TrainingData, reference_profile

TRAININGS = 4
"""Most fits that a calibration may cost."""

ENOUGH = 0.5
"""Share of the training rows that a judge knows, but where that leaves fewer than three windows: one that knows much less than
the model is worse on the same rows, and says little about it."""

_TICK = timedelta(microseconds=1)

Block = tuple[int, int]
"""The rows of a window among rows sorted in time: the first, and the one after the last."""


def calibrate_bounds(job: Job, draft: Model, data: TrainingData, fitted: Fitted) -> Calibration:
    """Bounds of a draft; none where the training rows fill fewer than three windows that can be judged from their past."""
    judged = judgeable_blocks(job.spec, data.table.times, data.since, data.until)
    if len(judged) < MIN_BLOCKS:
        return Calibration(bounds={}, blocks=len(judged))
    found = [one for group in _groups(judged, job.spec.policy.every) for one in _measured(draft, data, fitted, group)]
    recalibration = fit_recalibration(job.spec.task, [(one.labels, one.scores) for one in found])
    bounds = bounds_of(job.spec, [one.values for one in found])
    return Calibration(bounds=bounds, blocks=len(judged), recalibration=recalibration)


def judgeable_blocks(spec: ModelSpec, times: NDArray[np.datetime64], since: datetime, until: datetime) -> list[Block]:
    """The newest windows that the monitor would judge and that have a window's length of rows before them, oldest first.

    `times` are those of the training rows, ascending, from `since` to `until`.
    """
    length = spec.window.length
    windows = blocks(until + _TICK, length, spec.signals.blocks, since + length)
    edges = [[np.datetime64(moment.replace(tzinfo=None), "us") for moment in (window.start, window.end)] for window in windows]
    found = [(int(start), int(stop)) for start, stop in (np.searchsorted(times, pair) for pair in edges)]
    found = [(start, stop) for start, stop in found if stop - start >= spec.window.min_rows]
    least = len(found) - MIN_BLOCKS
    return [block for place, block in enumerate(found) if place >= least or block[0] >= ENOUGH * len(times)]


def _groups(judged: Sequence[Block], every: int) -> Iterator[Sequence[Block]]:
    """The blocks that share a judge, in order of time, as even as can be.

    As many as there are windows between two challengers: a model is watched at each age up to that, so its bounds are of those.
    """
    count = min(TRAININGS, math.ceil(len(judged) / every))
    edges = np.linspace(0, len(judged), count + 1).astype(int)
    yield from (judged[start:stop] for start, stop in pairwise(edges.tolist()))


def _measured(draft: Model, data: TrainingData, fitted: Fitted, group: Sequence[Block]) -> Iterator[Measurement]:
    """Neighbouring blocks, measured by a model fitted in the same way to the rows before the first of them."""
    past = group[0][0]
    if not has_contrast(data.table.labels[:past]):
        return
    estimator = fitted.trainer.fit(fitted.params, fitted.rounds, np.arange(past))
    judge = replace(draft, estimator=estimator, profile=reference_profile(data, estimator, past))
    yield from (measure_block(judge, data.frame.slice(start, stop - start)) for start, stop in group)


@local_task("calibrate")
def calibrate(job: Job, draft: Model, data: TrainingData, fitted: Fitted, champion: Model | None = None) -> Calibration:
    """Calibrate, with the champion's bounds where there are too few blocks; warn where that leaves none, or not own ones."""
    found = inherit_bounds(job.spec, calibrate_bounds(job, draft, data, fitted), champion)
    if (warning := missing_bounds_warning(job.spec, found)) is not None:
        get_run_logger().warning(warning)
    return found
