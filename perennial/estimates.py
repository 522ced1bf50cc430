"""Estimates: how good a model is on rows whose labels have not come, from its own confidence in its scores.

A calibrated probability says how often it is wrong, so the mean of the losses that it expects is the loss to come:
confidence-based performance estimation. The calibration is Platt's (a temperature for more than two classes), fitted at training
time to the scores of the judges of the rolling origin, which had not seen the rows. It sees what becomes of the loss because the
rows change; it cannot see that the truth about equal rows has changed, which is why the loss itself stands beside it once labels
are there. A regression's predictions carry no confidence: it has no estimate.
"""

from collections.abc import Sequence

import numpy as np

from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.links import log_odds
from perennial.metrics import EPSILON, row_losses
from perennial.spec import Task

FEWEST = 50
"""Rows of each outcome (true and false, right and wrong) that a calibration needs: fitted to fewer it is worse than none."""


class Recalibration(FrozenModel):
    """The log-odds of a score times `slope` plus `intercept`; for more than two classes the logarithms times `slope`."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, scores: Floats) -> Floats:
        """Calibrated probabilities, of the shape of the scores."""
        if scores.ndim == 1:
            return _logistic(self.slope * log_odds(scores) + self.intercept)
        raised = np.clip(scores, EPSILON, 1.0) ** self.slope
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_recalibration(task: Task, parts: Sequence[tuple[Floats, Floats]]) -> Recalibration | None:
    """The calibration that fits (labels, scores) of rows no judge had seen best; None where the task or too few rows allow none.

    Platt 1999; Guo, Pleiss, Sun, Weinberger 2017 for the temperature.
    """
    if task == "regression" or not parts:
        return None
    labels, scores = (np.concatenate(one) for one in zip(*parts, strict=True))
    known = labels < (2 if task == "binary" else scores.shape[1])  # neither NaN nor a class that the model does not know
    hits = labels[known] if task == "binary" else labels[known] == scores[known].argmax(axis=1)
    if min(hits.sum(), (1 - hits).sum()) < FEWEST:
        return None
    return _minimise(labels[known], scores[known])


def expected_loss(metric: str, scores: Floats) -> float | None:
    """The mean loss that calibrated probabilities expect of themselves; None for a metric that they say nothing about."""
    if metric not in ("log_loss", "brier") or len(scores) == 0:
        return None
    likely = np.clip(np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores, EPSILON, 1.0)
    losses = -np.log(likely) if metric == "log_loss" else np.square(1 - likely)
    return float((likely * losses).sum(axis=1).mean())


def moved_to_base_rate(task: Task, labels: Floats, scores: Floats) -> Floats:
    """Scores moved by one constant so that their mean is that of the labels: what is left of the loss is no prior shift.

    The constant is in log-odds for probabilities; for more than two classes each class has its own, by one step of the correction
    for a changed prior (Saerens, Latinne, Decaestecker 2002).
    """
    if task == "regression":
        return np.asarray(scores - scores.mean() + labels.mean())
    if task == "binary":
        return Recalibration(intercept=_intercept(scores, float(labels.mean()))).apply(scores)
    rates = np.array([(labels == code).mean() for code in range(scores.shape[1])])
    weighted = scores * np.clip(rates, EPSILON, None) / np.clip(scores.mean(axis=0), EPSILON, None)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))


def _minimise(labels: Floats, scores: Floats) -> Recalibration:
    from scipy.optimize import minimize

    task: Task = "binary" if scores.ndim == 1 else "multiclass"
    start = np.array([1.0, 0.0] if task == "binary" else [1.0])

    def at(parameters: Floats) -> Recalibration:
        return Recalibration(**dict(zip(("slope", "intercept"), parameters.tolist(), strict=False)))

    def loss(parameters: Floats) -> float:
        return float(row_losses(task, labels, at(parameters).apply(scores), "log_loss").mean())

    return at(minimize(loss, start, method="Nelder-Mead").x)


def _intercept(scores: Floats, rate: float) -> float:
    """The constant in log-odds that makes the mean of the scores `rate`."""
    from scipy.optimize import brentq

    odds = log_odds(scores)
    return float(brentq(lambda constant: _logistic(odds + constant).mean() - rate, -100.0, 100.0)) if 0 < rate < 1 else 0.0


def _logistic(odds: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -odds)))
