"""The verdict: whether and how the models grow stale, and which policy to write into the spec.

Everything that is chosen is chosen on the first windows and judged on the later ones. The default stays unless another policy
cost less by more than a standard error: what is not shown to be better is not recommended.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel
from perennial.spec_policy import Evidence
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.policies import CALENDARS, Priced, calendar, calendar_name
from tasks.backtest.simulate import Life
from tasks.backtest.study import DEFAULT, OURS, Study, draws, standard_error

Decay = Literal["none", "growth", "gradual", "abrupt"]

SIGNIFICANT = 1.96
"""Standard errors from nothing at which an effect is taken for one: 95 %, two-sided."""

CONFIDENT = 0.95
"""Share of the draws that must agree on an explanation for it to be taken."""

OLDEST = 13
"""Ages shown of a decay curve, in windows."""

FEW_WINDOWS, MOST_OF_IT = 0.1, 0.5
"""Decay is abrupt where this share of the windows brings that share of what one window of age costs."""


class AgePoint(FrozenModel):
    """How much more a model of this age (in windows) loses than the newest one on the same rows, and the error of that."""

    age: int
    excess: float
    error: float


class Recommendation(FrozenModel):
    """A policy as the spec says it, and what it did on the windows on which it was not chosen."""

    name: str
    evidence: Evidence = "challenger"
    train_on: tuple[str, ...]
    every: int
    promote: Literal["avoidable", "always"]
    cost: float
    windows: int
    promotions: int
    mean_loss: float
    gain_share: float | None
    default_gain_share: float | None


def decay_curve(matrix: LossMatrix) -> tuple[AgePoint, ...]:
    """The mean excess by age, over all windows on which a model of that age can be judged."""
    points = []
    for age in range(1, OLDEST + 1):
        values = _excesses(matrix, age)
        if values.size > 1:
            error = standard_error(values) / values.size
            points.append(AgePoint(age=age, excess=float(values.mean()), error=error))
    return tuple(points)


def decay_kind(matrix: LossMatrix, *, grows: bool = True) -> Decay:
    """None where older models lose no more; growth where the number of rows tells, not the age; else how decay comes.

    `grows` is whether a later training learns from more rows.
    """
    pairs = _pairs(matrix)
    if len(pairs) < 2 or not _differs(pairs[:, 2], pairs[:, 3]):
        return "none"
    if grows and _growth_explains(pairs):
        return "growth"
    steps = np.sort(np.maximum(_excesses(matrix, 1), 0))[::-1]
    few = max(1, round(FEW_WINDOWS * steps.size))
    return "abrupt" if steps[:few].sum() >= MOST_OF_IT * steps.sum() else "gradual"


def _excesses(matrix: LossMatrix, age: int) -> Floats:
    found = [matrix.excess(window - age, window, window) for window in matrix.judged.tolist() if window - age >= matrix.first]
    return np.array([entry.excess for entry in found if entry is not None])


def _pairs(matrix: LossMatrix) -> Floats:
    """Log of how many times the rows, age, excess and window of every older model beside the newest one, (n, 4)."""
    known = np.concatenate([[0], np.cumsum(matrix.counts)]).astype(float)
    rows = [
        (np.log(known[window] / known[boundary]), window - boundary, entry.excess, window)
        for window in matrix.judged.tolist()
        for boundary in range(matrix.first, window)
        if (entry := matrix.excess(boundary, window, window)) is not None
    ]
    return np.array(rows).reshape(-1, 4)


def _differs(values: Floats, windows: Floats) -> bool:
    """Whether the windows' mean values are on average above 0, by more than chance."""
    means = np.array([values[windows == window].mean() for window in np.unique(windows)])
    return means.size > 1 and float(means.sum()) > SIGNIFICANT * standard_error(means)


def _growth_explains(pairs: Floats) -> bool:
    """Whether models of one age lose the more the more the table has grown, and beyond that nothing is left of their age.

    Least squares with a constant for each age: the slope on growth comes from models of the same age, and what it leaves is what
    age costs a table that does not grow. At 95 %, windows drawn in blocks.
    """
    pairs = pairs[pairs[:, 1] <= OLDEST]
    windows = np.unique(pairs[:, 3])
    places = {window: np.flatnonzero(pairs[:, 3] == window) for window in windows}
    samples = (pairs[np.concatenate([places[window] for window in windows[drawn]])] for drawn in draws(windows.size, 0))
    fits = np.array([_growth_and_rest(one[:, 0], one[:, 1].astype(int), one[:, 2]) for one in samples])
    return bool(np.quantile(fits[:, 0], 1 - CONFIDENT) > 0 and np.quantile(fits[:, 1], 1 - CONFIDENT) <= 0)


def _growth_and_rest(growth: Floats, ages: Indices, excess: Floats) -> tuple[float, float]:
    """The slope on growth within models of one age, and the mean excess that it leaves."""
    counts = np.maximum(np.bincount(ages), 1)
    apart = growth - (np.bincount(ages, growth) / counts)[ages]
    squares = float(apart @ apart)
    slope = float(apart @ excess) / squares if squares else 0.0
    return slope, float((excess - slope * growth).mean())


def recommend(study: Study) -> Recommendation:
    """The policy that cost least on the first windows, or the default where no other did so beyond chance."""
    cost, early = study.spec.policy.cost, study.early
    candidates: dict[str, Priced] = dict(study.ours())
    lives = {name: policy(cost) for name, policy in candidates.items()}
    lives |= {calendar_name(every): calendar(study.matrix, every) for every in CALENDARS}
    chosen = cheapest({name: study.expenses(life, cost)[:early] for name, life in lives.items()}, DEFAULT)
    return _judged_later(study, chosen, lives[chosen])


def cheapest(expenses: Mapping[str, Floats], standing: str) -> str:
    """The name whose expenses undercut the standing one's most, by more than a standard error; else the standing one."""
    saved = {name: expenses[standing] - other for name, other in expenses.items() if name != standing}
    better = {name: float(one.sum()) for name, one in saved.items() if one.sum() > standard_error(one)}
    return max(better, key=lambda name: better[name]) if better else standing


def _judged_later(study: Study, name: str, life: Life) -> Recommendation:
    later = slice(study.early, None)
    losses, starts = study.losses(life), study.matrix.judged[later]
    calendars = {calendar_name(every): {"train_on": ("every",), "every": every, "promote": "always"} for every in CALENDARS}
    keys = {"every": study.spec.policy.every, "promote": "avoidable"} | {**OURS, **calendars}[name]
    return Recommendation.model_validate(
        {
            **keys,
            "name": name,
            "cost": study.spec.policy.cost,
            "windows": starts.size,
            "promotions": sum(boundary >= starts[0] for boundary in life.promotions) if starts.size else 0,
            "mean_loss": float(losses[later].mean()),
            "gain_share": study.gain_share(losses, later),
            "default_gain_share": study.gain_share(study.losses(study.default), later),
        }
    )


def policy_section(found: Recommendation) -> dict[str, str]:
    """The keys of `[policy]` and their values as TOML writes them."""
    return {
        "evidence": f'"{found.evidence}"',
        "train_on": "[" + ", ".join(f'"{one}"' for one in found.train_on) + "]",
        "every": str(found.every),
        "promote": f'"{found.promote}"',
        "cost": f"{found.cost:g}",
    }
