"""Links: what turns a model's raw scores into its predictions, and predictions back into raw scores.

Log-odds of true for binary, a score for each class before the softmax for multiclass, the value itself for regression.
"""

import numpy as np

from perennial.arrays import Floats
from perennial.metrics import EPSILON
from perennial.spec import Task


def link(task: Task, raw: Floats) -> Floats:
    """Raw scores (n, outputs) as the task's: probabilities of true (n,), of classes (n, outputs), or values (n,)."""
    if task == "regression":
        return raw[:, 0]
    if task == "binary":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(raw[:, 0], -700, 700))))
    odds = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def raw_scores(task: Task, scores: Floats) -> Floats:
    """Scores as a model gives them as raw scores (n, outputs), from which `link` makes them again; a certain one is cut."""
    if task == "regression":
        return scores[:, np.newaxis]
    if task == "binary":
        return log_odds(scores)[:, np.newaxis]
    return np.asarray(np.log(np.clip(scores, EPSILON, 1.0)))


def log_odds(scores: Floats) -> Floats:
    """Of probabilities, which are kept EPSILON from 0 and 1."""
    likely = np.clip(scores, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(likely) - np.log1p(-likely))
