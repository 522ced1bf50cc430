"""Calibration: bounds from what the signals do on blocks, each measured by a model that was trained before it.

A bound is a one-sided prediction bound: where the value of one more ordinary window stays, if windows are like the blocks. The
confidence asked for is that of all signals together. Blocks are whole windows, because rows of one week resemble each other;
bounds from single rows drawn at random fire in nearly every ordinary week.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import polars as pl

from monitoring.measurement import Measurement, loss_metric, measure
from monitoring.policy import MIN_COVERAGE
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.estimates import Recalibration
from perennial.model import Model
from perennial.signals import Bounds, SignalValues, signals_of
from perennial.spec import ModelSpec

MIN_BLOCKS = 3
"""With fewer values the t distribution's tail makes the bound meaningless; there is none then."""


class Calibration(FrozenModel):
    """The bounds of a model, and on how many blocks its signals were measured for them; `recalibration` is from their scores.

    `inherited` names the signals whose bounds are those of version `parent`, because there were too few blocks for own ones.
    """

    bounds: Bounds
    blocks: int
    recalibration: Recalibration | None = None
    inherited: tuple[str, ...] = ()
    parent: int | None = None


def blocks(until: datetime, length: timedelta, count: int, since: datetime) -> tuple[Window, ...]:
    """The newest `count` windows that end at `until` and that rows from `since` on reach over well enough, oldest first.

    Well enough is as the policy asks of a window: three weeks of hourly rows are an hour short of three weeks, yet three blocks.
    """
    ends = (until - index * length for index in range(count))
    found = [Window(start=end - length, end=end) for end in ends if end - since >= MIN_COVERAGE * length]
    return tuple(reversed(found))


def measure_block(model: Model, rows: pl.DataFrame) -> Measurement:
    """Rows `model` was not trained on (raw inputs, event time, target), measured just as a window is."""
    return measure(model, model.compiled.table(rows), rows[model.card.spec.target])


def calibrate(spec: ModelSpec, blocks: Sequence[SignalValues]) -> Bounds:
    """Bounds of a model from the values of its blocks; a signal without enough values has none."""
    confidence = signal_confidence(spec)
    found = {
        signal.name: prediction_bound(
            [values[signal.name] for values in blocks if signal.name in values], confidence, signal.alarms_when
        )
        for signal in signals_of(spec.task)
    }
    return {name: bound for name, bound in found.items() if bound is not None}


def signal_confidence(spec: ModelSpec) -> float:
    """The confidence of each signal's bound with which an ordinary window keeps all of them as often as asked: Bonferroni."""
    return 1 - (1 - spec.signals.confidence) / max(1, len(spec.enabled_signals))


def inherit_bounds(spec: ModelSpec, found: Calibration, parent: Model | None) -> Calibration:
    """The same with the parent's bounds for signals that have none: a retraining on few windows must not end the watch.

    A loss is comparable only under the same metric.
    """
    if parent is None:
        return found
    alike = loss_metric(parent.card.spec) == loss_metric(spec)
    taken = {name: bound for name, bound in parent.card.bounds.items() if name not in found.bounds and (alike or name != "loss")}
    update = {"bounds": found.bounds | taken, "inherited": tuple(taken), "parent": parent.card.version}
    return found.model_copy(update=update) if taken else found


def bounds_in_force(spec: ModelSpec, bounds: Bounds) -> Bounds:
    """The bounds in force: the spec's own where it names one."""
    return bounds | spec.signals.named_bounds


def missing_bounds_warning(spec: ModelSpec, found: Calibration) -> str | None:
    """Which signals have no bound, or only that of another version, why, and what to do; None when all have their own."""
    unnamed = [signal for signal in spec.enabled_signals if signal.name not in spec.signals.named_bounds]
    silent = [signal for signal in unnamed if signal.name not in found.bounds]
    concerned = silent or [signal for signal in unnamed if signal.name in found.inherited]
    if not concerned:
        return None
    names = ", ".join(signal.name for signal in concerned)
    keys = ", ".join(signal.bound_key for signal in concerned)
    missing = f"the monitor will never alarm on {names}: no bound"
    what = missing if silent else f"the bounds of {names} are still those of version {found.parent}"
    return (
        f"{what}. A bound takes {MIN_BLOCKS} measured blocks, and the training rows fill "
        f"{found.blocks}: whole windows of window.length = {format_duration(spec.window.length)} "
        f"with at least window.min_rows = {spec.window.min_rows} rows each, after a first one to learn from. Train on more "
        f"history, make window.length shorter, or name {keys} in [signals]"
    )


def prediction_bound(values: Sequence[float], confidence: float, side: Literal["above", "below"]) -> float | None:
    """mean +- t(confidence, n-1) * sd * sqrt(1 + 1/n): the one-sided prediction bound of one more normal value.

    Hahn and Meeker, Statistical Intervals, section 4.8. None with fewer than MIN_BLOCKS values.
    """
    from scipy import stats

    n = len(values)
    if n < MIN_BLOCKS:
        return None
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    margin = float(stats.t.ppf(confidence, n - 1)) * sd * math.sqrt(1 + 1 / n)
    return mean + margin if side == "above" else mean - margin
