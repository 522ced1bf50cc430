"""Gradient-boosted trees by scikit-learn's histogram boosting, kept as LightGBM's text, which is neither pickle nor code.

Both libraries grow trees of the same kind: `value <= threshold`, sets of categories, and a side for null at each split. So a
fitted model is written down as a LightGBM model (`lightgbm_text`), and everything after the fit is what serves LightGBM's own:
prediction in C, single rows, Shapley values. Scores are those of scikit-learn but for the order of the sums; tests hold them
equal. Only fitting imports scikit-learn.

A category is a category of scikit-learn too. It takes 255 of them at most, so the rarest of a larger dictionary share one.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.arrays import Floats, Indices
from perennial.errors import TrainingError
from perennial.learner import LearningCurve, Objective, TrainingTable
from perennial.learners.declarations import PASSIVE_OPENMP, Params
from perennial.learners.lightgbm import LEARNER as LIGHTGBM
from perennial.learners.lightgbm import TreeEstimator, read_booster
from perennial.learners.lightgbm_text import Split, Tree, model_text
from perennial.learners.linear import ABSENT
from perennial.links import link
from perennial.metrics import auc, higher_is_better, row_losses, score

FILE = "hist_boosting.txt"

MOST_LEVELS = 255  # of a category, which is scikit-learn's limit
OWN_LOSS = {"log_loss": lambda loss: loss, "rmse": lambda loss: np.sqrt(2 * loss), "mae": lambda loss: loss}
"""Our metrics as functions of the loss that scikit-learn minimises; it computes that after each round anyhow."""


@dataclass(frozen=True)
class Levels:
    """The levels of one category: `level` is that of each code, and codes beyond the dictionary have none."""

    level: Indices

    @classmethod
    def of(cls, codes: Floats, size: int) -> "Levels":
        """Each code its own level, or the most frequent ones, and the rest one together."""
        if size <= MOST_LEVELS:
            return cls(np.arange(size))
        counts = np.bincount(codes[~np.isnan(codes)].astype(np.intp), minlength=size)
        level = np.full(size, MOST_LEVELS - 1)
        level[np.argsort(-counts, kind="stable")[: MOST_LEVELS - 1]] = np.arange(MOST_LEVELS - 1)
        return cls(level)

    def encode(self, codes: Floats) -> Floats:
        return np.where(np.isnan(codes), np.nan, self.level[np.nan_to_num(codes).astype(np.intp)])

    def codes(self, levels: Indices) -> frozenset[int]:
        """The codes that have one of these levels."""
        return frozenset(np.flatnonzero(np.isin(self.level, levels)).tolist())


class HistTrainer:
    """Fits on rows of one table, whose categories become levels once; each fit bins its own rows, as scikit-learn does."""

    def __init__(self, table: TrainingTable, objective: Objective) -> None:
        self._table, self._objective = table, objective

    @cached_property
    def _encoded(self) -> tuple[dict[int, Levels], Floats]:
        """The levels of each column of categories, and the matrix with them in their places; made for the first fit."""
        matrix = np.array(self._table.matrix[:])
        sizes = enumerate(self._table.categories)
        levels = {at: Levels.of(matrix[:, at], size) for at, size in sizes if size is not None}
        for at, own in levels.items():
            matrix[:, at] = own.encode(matrix[:, at])
        return levels, matrix

    @property
    def _levels(self) -> dict[int, Levels]:
        return self._encoded[0]

    @property
    def _matrix(self) -> Floats:
        return self._encoded[1]

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> TreeEstimator:
        chosen = np.arange(len(self._table)) if rows is None else rows
        seen = self._seen(chosen)
        if seen.size == 1:
            return self._estimator([], _constant(self._objective, seen))
        fitted = self._fit(params, rounds, chosen)
        return self._estimator(*self._export(fitted, chosen, seen))

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:
        """The loss that scikit-learn minimises says when to stop, and the metric which round was best."""
        table, metric, seen = self._table, self._objective.metric, self._seen(train)
        known = valid if self._objective.task == "regression" else valid[np.isin(table.labels[valid], seen)]
        if seen.size == 1 or not known.size:
            found = score(self._objective.task, table.labels[valid], self.fit(params, 1, train).predict(table.matrix[valid]))
            return LearningCurve(1, (found.values.get(metric, 0.5),))
        fitted = self._fit(params, rounds, train, known, patience)
        if metric in OWN_LOSS and known.size == valid.size:
            values = OWN_LOSS[metric](-fitted.validation_score_[1:]).tolist()
        else:
            values = [self._metric(valid, scores) for scores in self._stages(fitted, valid, seen)]
        best = max if higher_is_better(metric) else min
        return LearningCurve(values.index(best(values)) + 1, tuple(values))

    def _seen(self, rows: Indices) -> Indices:
        """The coded classes among these rows, ascending; of a regression two, for it has no class to lack."""
        return np.array([0, 1]) if self._objective.task == "regression" else np.unique(self._table.labels[rows]).astype(np.intp)

    def _fit(self, params: Params, rounds: int, rows: Indices, valid: Indices | None = None, patience: int = 1) -> Any:
        os.environ.setdefault(*PASSIVE_OPENMP)
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        objective, (matrix, labels, weights) = self._objective, self._rows(rows)
        loss = {"regression": "absolute_error" if objective.metric == "mae" else "squared_error"}.get(objective.task, "log_loss")
        kind = HistGradientBoostingRegressor if objective.task == "regression" else HistGradientBoostingClassifier
        stopping: dict[str, Any] = {"early_stopping": valid is not None, "n_iter_no_change": patience, "tol": 0.0}
        fixed = {"loss": loss, "max_iter": rounds, "random_state": objective.seed, **stopping}
        held_out = {} if valid is None else dict(zip(("X_val", "y_val", "sample_weight_val"), self._rows(valid), strict=True))
        try:
            with threadpool_limits(objective.threads, user_api="openmp"):
                model = kind(categorical_features=sorted(self._levels) or None, **fixed, **params)
                return model.fit(matrix, labels, sample_weight=weights, **held_out)
        except (ValueError, TypeError) as error:
            raise TrainingError(f"scikit-learn cannot boost with {params}: {error}") from error

    def _rows(self, rows: Indices) -> tuple[Floats, Floats, Floats | None]:
        weights = self._table.weights
        return self._matrix[rows], self._table.labels[rows], None if weights is None else weights[rows]

    def _stages(self, fitted: Any, rows: Indices, seen: Indices) -> Iterator[Floats]:
        """Scores of these rows after each round."""
        task, matrix = self._objective.task, self._matrix[rows]
        if task == "regression":
            yield from fitted.staged_predict(matrix)
            return
        for some in fitted.staged_decision_function(matrix):
            raw = some.reshape((len(rows), -1))
            if task == "multiclass":
                every = np.full((len(rows), self._objective.classes), ABSENT)
                every[:, seen] = raw if seen.size > 2 else np.hstack([np.zeros_like(raw), raw])
                raw = every
            yield link(task, raw)

    def _metric(self, rows: Indices, scores: Floats) -> float:
        """The metric of one round; an AUC that a single class leaves undefined counts as that of a coin."""
        objective, labels = self._objective, self._table.labels[rows]
        weights = None if self._table.weights is None else self._table.weights[rows]
        if objective.metric == "auc":
            found = auc(labels, scores, weights)
            return 0.5 if found is None else found
        mean = float(np.average(row_losses(objective.task, labels, scores, objective.metric), weights=weights))
        return float(np.sqrt(mean)) if objective.metric == "rmse" else mean

    def _export(self, fitted: Any, rows: Indices, seen: Indices) -> tuple[list[list[Tree]], list[float]]:
        """The trees of each round, and the raw score before the first, for each output of the task."""
        columns = self._columns(rows)
        rounds = [[_tree(one, columns) for one in trees] for trees in fitted._predictors]
        base = fitted._baseline_prediction.ravel().tolist()
        if self._objective.task != "multiclass":
            return rounds, base
        if seen.size == 2:  # scikit-learn fits one tree a round then: the log-odds of the second class
            seen = seen[1:]
        bases, place = [ABSENT] * self._objective.classes, dict(zip(seen.tolist(), range(seen.size), strict=True))
        for one in self._seen(rows).tolist():
            bases[one] = base[place[one]] if one in place else 0.0
        outputs = range(self._objective.classes)
        return [[trees[place[one]] if one in place else Tree.constant(0.0) for one in outputs] for trees in rounds], bases

    def _columns(self, rows: Indices) -> list["Column"]:
        """Our columns in scikit-learn's order, which has the categories first, with the codes behind each of its numbers."""
        numbers = (Column(at, None, frozenset()) for at in range(self._matrix.shape[1]) if at not in self._levels)
        return [*(self._category(at, rows) for at in sorted(self._levels)), *numbers]

    def _category(self, at: int, rows: Indices) -> "Column":
        values, levels = self._matrix[rows, at], self._levels[at]
        known = np.unique(values[~np.isnan(values)]).astype(np.intp)
        return Column(at, tuple(levels.codes(known[place : place + 1]) for place in range(known.size)), levels.codes(known))

    def _estimator(self, rounds: list[list[Tree]], base: list[float]) -> TreeEstimator:
        text = model_text(self._objective.task, self._matrix.shape[1], base, rounds)
        return TreeEstimator(read_booster(text.encode(), FILE))


@dataclass(frozen=True)
class Column:
    """Where a column of scikit-learn's stands in ours; of a category the codes of each of its numbers, and all of them."""

    at: int
    codes: tuple[frozenset[int], ...] | None
    known: frozenset[int]


class HistBoosting:
    file = FILE
    default_rounds = 100
    trainer = HistTrainer
    import_for_serving = LIGHTGBM.import_for_serving

    def from_bytes(self, content: bytes) -> TreeEstimator:
        return TreeEstimator(read_booster(content, FILE))


LEARNER = HistBoosting()


def _constant(objective: Objective, seen: Indices) -> list[float]:
    """Raw scores where the rows have a single class."""
    if objective.task == "binary":
        return [ABSENT if seen[0] == 0 else -ABSENT]
    return [0.0 if one == seen[0] else ABSENT for one in range(objective.classes)]


def _tree(predictor: Any, columns: list[Column]) -> Tree:
    """A tree of scikit-learn's, whose nodes lie in one array with the root first."""
    nodes: NDArray[Any] = predictor.nodes
    inner, leaves = np.flatnonzero(nodes["is_leaf"] == 0), np.flatnonzero(nodes["is_leaf"])
    place = np.empty(len(nodes), dtype=np.intp)
    place[inner], place[leaves] = np.arange(inner.size), -1 - np.arange(leaves.size)
    splits = tuple(_split(nodes[at], place, columns, predictor.raw_left_cat_bitsets) for at in inner.tolist())
    return Tree(tuple(nodes["value"][leaves].tolist()), tuple(nodes["count"][leaves].tolist()), splits)


def _split(node: Any, place: Indices, columns: list[Column], bitsets: NDArray[np.uint32]) -> Split:
    column = columns[node["feature_idx"]]
    left, right = int(place[node["left"]]), int(place[node["right"]])
    gain, count, null_left = float(node["gain"]), int(node["count"]), bool(node["missing_go_to_left"])
    if column.codes is None:
        return Split(column.at, gain, count, left, right, float(node["num_threshold"]), null_left)
    bits = bitsets[node["bitset_idx"]]
    inside = [codes for number, codes in enumerate(column.codes) if bits[number // 32] >> np.uint32(number % 32) & 1]
    chosen = frozenset[int]().union(*inside)
    if null_left:  # LightGBM sends null and unknown to the right always: the set is that of the other side then
        return Split(column.at, gain, count, right, left, column.known - chosen)
    return Split(column.at, gain, count, left, right, chosen)
