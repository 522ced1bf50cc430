"""The policies that a backtest compares, each as a life in a loss matrix.

Beside ours there are the ones that people use: never, a calendar, an age, alarms on a level (drift, loss, AUC, the share of
drifted columns, the sum of losses beyond the first), and CARA (Mahadevan and Mathioudakis 2023), whose thresholds are fitted to
the first part of the history. Bounds are those of the monitor: from a rolling origin, in which each of the newest windows before
a training is judged by a model trained before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from monitoring.calibration import calibrate
from perennial.arrays import Floats
from perennial.signals import Bounds, Signal
from perennial.spec import ModelSpec
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.simulate import Life, Moment, MonitoredLife, Rule, simulate

CALENDARS = (1, 2, 4, 8, 13)
"""Windows between promotions of the calendars shown."""

DRIFTED_COLUMN, DRIFTED_SHARE = 0.1, 0.5
"""Evidently's defaults for tables of more than a thousand rows: the distance of a column, and the share of such columns."""

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""What CARA's thresholds on the relative excess of the loss are chosen from."""

Priced = Callable[[float], Life]
"""A policy that takes the cost of a new version into account."""


class Alarms:
    """Which signals alarm at a moment, by the `bounds` of the champion."""

    def __init__(self, matrix: LossMatrix, spec: ModelSpec) -> None:
        self._matrix, self.signals = matrix, spec.enabled_signals
        self.bounds = lru_cache(maxsize=None)(partial(rolling_bounds, matrix, spec))

    def on(self, signal: Signal, moment: Moment) -> bool:
        """Whether the signal alarms on the newest window on which it can be measured."""
        window = moment.labelled if signal.needs_labels else moment.drifted
        return self.verdict(signal, moment.champion, window) or False

    def verdict(self, signal: Signal, champion: int, window: int) -> bool | None:
        """Whether the signal alarms on a window; None where it has no bound, or no value."""
        cell, bound = self._matrix.cell(champion, window), self.bounds(champion).get(signal.name)
        value = None if cell is None else cell.signals.get(signal.name)
        return None if value is None or bound is None else signal.alarms(value, bound)

    def any(self, moment: Moment) -> bool:
        """Whether any signal alarms."""
        return any(self.on(signal, moment) for signal in self.signals)


def rolling_bounds(matrix: LossMatrix, spec: ModelSpec, boundary: int) -> Bounds:
    """Bounds of the model of `boundary`: each of the newest windows before it by the newest model that had not seen it."""
    labelled = range(boundary - spec.signals.blocks - matrix.lag, boundary - matrix.lag)
    return calibrate(spec, [cell.signals for window in labelled if (cell := matrix.cell(window, window)) is not None])


def monitored(matrix: LossMatrix, spec: ModelSpec, alarms: Alarms, policy: Mapping[str, object], cost: float) -> Life:
    """Our policy, with these keys of `[policy]` and a cost beside what the spec says."""
    changed = spec.policy.model_copy(update={"promote": "avoidable", **policy, "cost": cost})
    return MonitoredLife(matrix, spec.model_copy(update={"policy": changed}), alarms.bounds).run()


def calendar(matrix: LossMatrix, every: int) -> Life:
    """A promotion every so many windows, which is also what a greatest age of the champion makes."""
    return simulate(matrix, lambda moment: moment.age >= every)


def baselines(matrix: LossMatrix, alarms: Alarms) -> Mapping[str, Life]:
    """The policies that people use today, at whatever cost."""
    signals = {f"{signal.label} over its bound": partial(alarms.on, signal) for signal in alarms.signals}
    rules: dict[str, Rule] = {
        "any finding": alarms.any,
        **signals,
        "share of drifted columns": partial(_drifted_columns, matrix),
    }
    calendars = {calendar_name(every): calendar(matrix, every) for every in CALENDARS}
    return {
        "never": simulate(matrix, lambda _: False),
        **calendars,
        **{name: simulate(matrix, rule) for name, rule in rules.items()},
    }


def calendar_name(every: int) -> str:
    return "every window" if every == 1 else f"every {every} windows"


@dataclass(frozen=True)
class Past:
    """The first `known` windows of a life, on which thresholds are fitted; costs are counted in `unit`, one window's loss."""

    matrix: LossMatrix
    unit: float
    known: int

    def lost(self, life: Life, cost: float) -> float:
        """What a life lost on these windows, promotions there included."""
        promoted = sum(boundary <= self.matrix.judged[self.known - 1] for boundary in life.promotions)
        total: float = self.matrix.losses_of(life.promotions)[: self.known].sum() / self.unit + cost * promoted
        return total


def priced_baselines(matrix: LossMatrix, past: Past) -> Mapping[str, Priced]:
    """The policies that weigh a new version's cost; thresholds and periods are those that were best in the past."""
    periods = range(1, len(matrix.boundaries) + 1)
    grids: dict[str, tuple[Sequence[float], Callable[[LossMatrix, float], Life]]] = {
        "CARA, periodic": (periods, lambda lived, every: calendar(lived, int(every))),
        "CARA, threshold": (THRESHOLDS, partial(_over, cumulative=False)),
        "CARA, cumulative": (THRESHOLDS, partial(_over, cumulative=True)),
    }
    fitted = {name: _fitted(matrix, past, levels, rule) for name, (levels, rule) in grids.items()}
    return {"cumulative excess": lambda cost: _over(matrix, cost, cumulative=True), **fitted}


def _fitted(matrix: LossMatrix, past: Past, levels: Sequence[float], rule: Callable[[LossMatrix, float], Life]) -> Priced:
    """The policy that lives by the level that lost least in the past."""
    lives = {level: rule(past.matrix, level) for level in levels}

    def live(cost: float) -> Life:
        return rule(matrix, min(lives, key=lambda level: past.lost(lives[level], cost)))

    return live


def _over(matrix: LossMatrix, level: float, *, cumulative: bool) -> Life:
    """Promote when the loss beyond that of the champion's first window, of one window or summed over all, reaches a level."""

    def due(moment: Moment) -> bool:
        losses = matrix.losses[moment.champion, moment.champion : moment.labelled + 1]
        known = losses[~np.isnan(losses)]
        excess: Floats = known / known[0] - 1 if known.size > 1 else np.zeros(1)
        return bool((excess.sum() if cumulative else excess[-1]) >= level)

    return simulate(matrix, due)


def _drifted_columns(matrix: LossMatrix, moment: Moment) -> bool:
    cell = matrix.cell(moment.champion, moment.drifted)
    distances = () if cell is None else cell.distances.values()
    return bool(distances) and float(np.mean([one >= DRIFTED_COLUMN for one in distances])) >= DRIFTED_SHARE
