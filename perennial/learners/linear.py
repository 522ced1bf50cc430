"""A linear model: scikit-learn's logistic regression, or ridge regression, with an L2 penalty. A fallback and a sanity check.

Numbers are standardised by the rows that are fitted and cut at ten standard deviations; a null counts as the mean.
Categories are one-hot by the frozen dictionary, with one more level for null and unknown. The raw score is an intercept plus
one term for each column, so explanations are exact. Ridge squares errors whatever the spec's metric is.

Only fitting imports scikit-learn and scipy. A fitted estimator predicts from its stored coefficients with numpy alone.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import CorruptVersion, TrainingError
from perennial.learner import LearningCurve, Objective, RowScorer, TrainingTable
from perennial.learners.declarations import Params
from perennial.links import link
from perennial.metrics import score
from perennial.profile import moments
from perennial.spec import Task

FILE = "linear.json"

FARTHEST = 10.0  # standard deviations at which numbers are cut: a line knows nothing there, and no score may be infinite
ALPHA = 1.0  # penalty where none was chosen: scikit-learn's own default
ABSENT = -30.0  # log-odds of a class that the fitted rows lack
MAX_ITERATIONS = 1_000

Numbers = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


class Design(FrozenModel):
    """How matrix columns become the sparse columns of a design matrix: one for a number, one for each level of a category.

    `categories` is as in `TrainingTable`; a category's mean is 0 and its scale 1.
    """

    categories: tuple[NonNegativeInt | None, ...]
    means: Numbers
    scales: Numbers

    def place(self, matrix: Floats) -> tuple[Floats, Indices]:
        """Values and design columns, both (n, k): all else in a design row is 0. A category's last level is null and unknown."""
        if matrix.shape[1] != len(self.categories):
            raise ValueError(f"a row has the wrong size: {matrix.shape[1]} columns; this model takes {len(self.categories)}")
        with np.errstate(over="ignore"):
            distance = (matrix - np.array(self.means)) / np.array(self.scales)
        distance = np.clip(np.nan_to_num(distance, nan=0.0), -FARTHEST, FARTHEST)
        level = np.where((matrix >= 0) & (matrix < self._sizes), matrix, self._sizes).astype(np.intp)
        return np.where([size is None for size in self.categories], distance, 1.0), self.starts[:-1] + level

    @cached_property
    def starts(self) -> Indices:
        """The first design column of each matrix column, and last the number of design columns."""
        return np.array([0, *np.cumsum(self._sizes + 1)], dtype=np.intp)

    @cached_property
    def _sizes(self) -> Indices:
        return np.array([size or 0 for size in self.categories], dtype=np.intp)


class LinearEstimator(StoredModel):
    """Intercepts, and for each design column one coefficient a raw score; `weights` is the spread of each column's term."""

    task: Task
    design: Design
    intercepts: Numbers = Field(min_length=1)
    coefficients: tuple[Numbers, ...]
    weights: Numbers

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        design, columns = self.design, self.columns
        widths = {len(row) for row in self.coefficients} - {len(self.intercepts)}
        lengths = {len(design.means), len(design.scales), len(self.weights)} - {columns}
        if widths or lengths or len(self.coefficients) != design.starts[-1]:
            raise ValueError("design, intercepts, coefficients and weights do not go together; publish it again")
        return self

    @property
    def columns(self) -> int:
        return len(self.design.categories)

    def predict(self, matrix: Floats) -> Floats:
        """The raw score through the task's link: logistic, softmax or none."""
        return link(self.task, sum(self._terms(matrix), np.tile(self.intercepts, (len(matrix), 1))))

    def explain(self, matrix: Floats) -> Floats:
        """Coefficient times distance from the mean; the base is the raw score of an average row."""
        base = np.tile(self.intercepts, (len(matrix), 1))
        contributions = np.stack([*self._terms(matrix), base], axis=-1)
        return contributions if self.task == "multiclass" else contributions[:, 0, :]

    def importance(self) -> tuple[float, ...]:
        """Standard deviation of what each column adds over the fitted rows."""
        return self.weights

    def row_scorer(self) -> RowScorer:
        """`predict` of one row, some ten microseconds and one or two a column."""
        return lambda values: self.predict(np.array([values], dtype=np.float64))[0].tolist()

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    def _terms(self, matrix: Floats) -> Iterator[Floats]:
        """What each column adds to the raw scores, (n, outputs)."""
        values, places = self.design.place(matrix)
        return (value[:, np.newaxis] * self._table[place] for value, place in zip(values.T, places.T, strict=True))

    @cached_property
    def _table(self) -> Floats:
        return np.array(self.coefficients, dtype=np.float64)


class LinearTrainer:
    """Fits linear models on rows of one table; nothing is shared between fits, for each standardises by its own rows."""

    def __init__(self, table: TrainingTable, objective: Objective) -> None:
        self._table, self._objective = table, objective
        self._weights = np.ones(len(table)) if table.weights is None else table.weights

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> LinearEstimator:  # noqa: ARG002 - has no rounds
        """Fit once, whatever `rounds` says."""
        alpha = params.get("alpha", ALPHA)
        if isinstance(alpha, str) or not alpha > 0:
            raise TrainingError(f"a linear model cannot be fitted with alpha = {alpha!r}: it must be a number above 0")
        table, chosen = self._table, slice(None) if rows is None else rows
        weights = self._weights[chosen]
        return _fit(self._objective, table.matrix[chosen], table.categories, table.labels[chosen], weights, alpha)

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:  # noqa: ARG002
        """The metric of one fit; an AUC that a single class leaves undefined counts as that of a coin."""
        predictions = self.fit(params, rounds, train).predict(self._table.matrix[valid])
        found = score(self._objective.task, self._table.labels[valid], predictions, self._weights[valid])
        return LearningCurve(1, (found.values.get(self._objective.metric, 0.5),))


class Linear:
    file = FILE
    default_rounds = 1
    trainer = LinearTrainer

    def from_bytes(self, content: bytes) -> LinearEstimator:
        try:
            return read_stored(LinearEstimator, content, FILE)
        except ValidationError as error:
            raise CorruptVersion(f"{FILE} is not a linear model that this release can read: {error}") from error

    def import_for_serving(self) -> None:
        """Nothing: numpy is here already."""


LEARNER = Linear()


def _fit(
    objective: Objective, matrix: Floats, categories: tuple[int | None, ...], labels: Floats, weights: Floats, alpha: float
) -> LinearEstimator:
    from scipy import sparse

    means, scales, (rows, columns) = np.zeros(len(categories)), np.ones(len(categories)), matrix.shape
    for column, size in enumerate(categories):
        known = matrix[~np.isnan(matrix[:, column]), column]
        if size is None and known.size:
            means[column], scales[column] = moments(known)
    scales[scales == 0] = 1.0
    design = Design(categories=categories, means=tuple(means.tolist()), scales=tuple(scales.tolist()))
    values, places = design.place(matrix)
    cells = (values.ravel(), places.ravel(), np.arange(rows + 1) * columns)
    table, intercepts = _solve(objective, sparse.csr_matrix(cells, shape=(rows, design.starts[-1])), labels, weights, alpha)
    spreads = []
    for column, size in enumerate(categories):
        term = values[:, column, np.newaxis] * table[places[:, column]]
        spreads.append(float(term.std(axis=0).sum()))
        if size is not None:  # centred like a number, so that the base is that of an average row
            table[design.starts[column] : design.starts[column + 1]] -= term.mean(axis=0)
            intercepts = intercepts + term.mean(axis=0)
    coefficients = tuple(map(tuple, table.tolist()))
    fitted = {"intercepts": tuple(intercepts.tolist()), "coefficients": coefficients, "weights": tuple(spreads)}
    return LinearEstimator(task=objective.task, design=design, **fitted)


def _solve(objective: Objective, design: Any, labels: Floats, weights: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Coefficients (design columns, outputs) and intercepts (outputs,); a binary model has one output, the log-odds of true."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if objective.task == "regression":
        ridge = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-8).fit(design, labels, sample_weight=weights)
        return ridge.coef_.reshape(-1, 1), np.array([ridge.intercept_])
    seen = np.unique(labels).astype(np.intp)
    coefficients = np.zeros((max(objective.classes, 2), design.shape[1]))
    intercepts = np.full(len(coefficients), ABSENT)
    intercepts[seen] = 0.0
    if len(seen) > 1:  # scikit-learn refuses a single class, and of two it gives the second alone
        fitted = LogisticRegression(C=1 / alpha, max_iter=MAX_ITERATIONS).fit(design, labels, sample_weight=weights)
        given = seen if len(seen) > 2 else seen[1:]
        coefficients[given], intercepts[given] = fitted.coef_, fitted.intercept_
    if objective.task == "binary":
        return np.diff(coefficients, axis=0).T, np.diff(intercepts)
    return coefficients.T.copy(), intercepts
