"""Calibration: bounds from what the signals do on blocks the model was not trained on.

A bound is a one-sided prediction bound: where the value of one more ordinary window stays, with
the given confidence, if windows are like the blocks. Blocks are whole windows, because rows of one
week resemble each other; bounds from single rows drawn at random fire in nearly every ordinary week.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import polars as pl

from monitoring.drift import measure_drift
from monitoring.performance import measure_performance
from monitoring.policy import LEAST_COVER
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.model import Model
from perennial.model_card import Bounds
from perennial.profile import count_profile
from perennial.spec import ModelSpec

LEAST_BLOCKS = 3
"""With fewer values the t distribution's tail makes the bound meaningless; there is none then."""


class BlockValues(FrozenModel):
    """The signals of one block, measured by a model that was not trained on it."""

    drift: float | None = None
    loss: float | None = None
    auc: float | None = None


class Calibration(FrozenModel):
    """The bounds of a model, and on how many blocks its signals were measured for them."""

    bounds: Bounds
    blocks: int


def blocks(until: datetime, length: timedelta, count: int, since: datetime) -> tuple[Window, ...]:
    """The newest `count` windows that end at `until` and that rows from `since` on reach over well enough, oldest first.

    Well enough is as the policy asks of a window: three weeks of hourly rows are an hour short of three weeks, yet three blocks.
    """
    ends = (until - index * length for index in range(count))
    found = [Window(start=end - length, end=end) for end in ends if end - since >= LEAST_COVER * length]
    return tuple(reversed(found))


def block_values(model: Model, rows: pl.DataFrame) -> BlockValues:
    """The signals of rows `model` was not trained on (raw inputs, event time, target), just as a window's are measured."""
    table = model.compiled.table(rows)
    drift = measure_drift(model.profile, count_profile(table, model.profile))
    performance = measure_performance(model, table, rows[model.card.spec.target])
    return BlockValues(drift=drift.total, loss=performance.loss, auc=performance.auc)


def calibrate(spec: ModelSpec, values: Sequence[BlockValues]) -> Bounds:
    """Bounds of a model from its blocks; a signal without enough values has none."""
    confidence = spec.signals.confidence
    return Bounds(
        drift=upper_bound([value.drift for value in values], confidence),
        loss=upper_bound([value.loss for value in values], confidence),
        auc=lower_bound([value.auc for value in values], confidence),
    )


def bounds_in_force(spec: ModelSpec, bounds: Bounds) -> Bounds:
    """The bounds in force: the spec's own where it names one."""
    named = spec.signals
    return Bounds(
        drift=bounds.drift if named.drift_bound is None else named.drift_bound,
        loss=bounds.loss if named.loss_bound is None else named.loss_bound,
        auc=bounds.auc if named.auc_bound is None else named.auc_bound,
    )


def silence(spec: ModelSpec, found: Calibration) -> str | None:
    """Which signals can never alarm because they have no bound, why, and what to do; None when all that are on have one."""
    known = bounds_in_force(spec, found.bounds).model_dump()
    names = [name for name in _signals_on(spec) if known[name] is None]
    if not names:
        return None
    keys = ", ".join(f"{name}_bound" for name in names)
    return (
        f"the monitor will never alarm on {', '.join(names)}: no bound. A bound takes {LEAST_BLOCKS} measured blocks, and "
        f"the training rows fill {found.blocks}: whole windows of window.length = {format_duration(spec.window.length)} "
        f"with at least window.min_rows = {spec.window.min_rows} rows each. Train on more history, make window.length "
        f"shorter, or name {keys} in [signals]"
    )


def _signals_on(spec: ModelSpec) -> list[str]:
    on = {"drift": spec.signals.drift, "loss": spec.signals.loss, "auc": spec.signals.auc and spec.task == "binary"}
    return [name for name, wanted in on.items() if wanted]


def upper_bound(values: Iterable[float | None], confidence: float) -> float | None:
    """mean + t(confidence, n-1) * sd * sqrt(1 + 1/n): the one-sided prediction bound of one more normal value.

    Hahn and Meeker, Statistical Intervals, section 4.8. None with fewer than LEAST_BLOCKS values.
    """
    from scipy import stats

    known = [value for value in values if value is not None]
    n = len(known)
    if n < LEAST_BLOCKS:
        return None
    mean = math.fsum(known) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    return mean + float(stats.t.ppf(confidence, n - 1)) * sd * math.sqrt(1 + 1 / n)


def lower_bound(values: Iterable[float | None], confidence: float) -> float | None:
    """The mirror image of `upper_bound`."""
    bound = upper_bound([None if value is None else -value for value in values], confidence)
    return None if bound is None else -bound
