"""A linear model: scikit-learn's logistic regression, or ridge regression, with an L2 penalty. A fallback and a sanity check.

Numbers are standardised by the rows that are fitted and cut at ten standard deviations; a null counts as the mean.
Categories are one-hot by the frozen dictionary, with one more level for null and unknown. The raw score is an intercept plus
one term for each column, so explanations are exact. Ridge squares errors whatever the spec's metric is.

Only fitting imports scikit-learn and scipy. A fitted estimator predicts from its stored coefficients with numpy alone.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import CorruptVersion, TrainingError
from perennial.learner import LearningCurve, Objective, RowScorer, TrainingTable
from perennial.learners.declarations import Params
from perennial.metrics import score
from perennial.profile import moments
from perennial.spec import Task

FILE = "linear.json"

FARTHEST = 10.0
"""Standard deviations from the mean at which numbers are cut: a line knows nothing there, and no score may be infinite."""

ALPHA = 1.0
"""Penalty where none was chosen: scikit-learn's own default."""

ABSENT = -30.0
"""Log-odds of a class that the fitted rows lack."""

MAX_ITERATIONS = 1_000

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = tuple[Number, ...]


class NumericTerm(FrozenModel):
    """A number's part of the raw scores; one coefficient for each of them, by standard deviation from the mean."""

    kind: Literal["numeric"] = "numeric"
    mean: Number
    scale: Number
    coefficients: Numbers

    @property
    def outputs(self) -> int:
        """Raw scores that it adds to."""
        return len(self.coefficients)

    def contribute(self, column: Floats) -> Floats:
        """What a column (n,) adds to the raw scores: (n, outputs)."""
        return np.outer(standardise(column, self.mean, self.scale), self.coefficients)

    def contribute_one(self, value: float) -> Numbers:
        """`contribute` of a single value, the same bits."""
        distance = 0.0 if math.isnan(value) else min(max((value - self.mean) / self.scale, -FARTHEST), FARTHEST)
        return tuple(distance * coefficient for coefficient in self.coefficients)


class CategoricalTerm(FrozenModel):
    """A category's part of the raw scores: a row of `effects` for each category, and the last for null and unknown."""

    kind: Literal["categorical"] = "categorical"
    effects: tuple[Numbers, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len({len(row) for row in self.effects}) != 1:
            raise ValueError("effects must have a number for each score in every row")
        return self

    @property
    def outputs(self) -> int:
        """Raw scores that it adds to."""
        return len(self.effects[0])

    def contribute(self, column: Floats) -> Floats:
        """What a column (n,) adds to the raw scores: (n, outputs)."""
        return np.asarray(self._table[levels(column, len(self.effects) - 1)])

    def contribute_one(self, value: float) -> Numbers:
        """`contribute` of a single value, the same bits."""
        return self.effects[int(value) if 0 <= value < len(self.effects) - 1 else -1]

    @cached_property
    def _table(self) -> Floats:
        return np.array(self.effects)


Term = Annotated[NumericTerm | CategoricalTerm, Field(discriminator="kind")]


class LinearEstimator(StoredModel):
    """Intercepts and one term for each column; `weights` is the spread of each term over the fitted rows."""

    task: Task
    intercepts: Numbers = Field(min_length=1)
    terms: tuple[Term, ...]
    weights: Numbers

    @property
    def columns(self) -> int:
        """Columns of the matrix it takes."""
        return len(self.terms)

    def predict(self, matrix: Floats) -> Floats:
        """The raw score through the task's link: logistic, softmax or none."""
        raw = np.tile(np.array(self.intercepts), (len(matrix), 1))
        for part in self._parts(matrix):
            raw += part
        return link(self.task, raw)

    def explain(self, matrix: Floats) -> Floats:
        """Coefficient times distance from the mean; the base is the raw score of an average row."""
        base = np.tile(np.array(self.intercepts), (len(matrix), 1))
        contributions = np.stack([*self._parts(matrix), base], axis=-1)
        return contributions if self.task == "multiclass" else contributions[:, 0, :]

    def importance(self) -> tuple[float, ...]:
        """Standard deviation of what each column adds: |coefficient| times the spread of the column."""
        return self.weights

    def row_scorer(self) -> RowScorer:
        """The same sums without arrays, a microsecond a column."""
        parts = [term.contribute_one for term in self.terms]

        def score_row(values: Sequence[float]) -> Any:
            raw = list(self.intercepts)
            for value, contribute in zip(values, parts, strict=True):
                for output, part in enumerate(contribute(value)):
                    raw[output] += part
            return link(self.task, np.array([raw]))[0].tolist()

        return score_row

    def to_bytes(self) -> bytes:
        """JSON."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def _parts(self, matrix: Floats) -> Iterator[Floats]:
        if matrix.shape[1] != self.columns:
            raise ValueError(f"the matrix has {matrix.shape[1]} columns; this model takes {self.columns}")
        return (term.contribute(column) for term, column in zip(self.terms, matrix.T, strict=True))


class LinearTrainer:
    """Fits linear models on rows of one table; nothing is shared between fits, for each standardises by its own rows."""

    def __init__(self, table: TrainingTable, objective: Objective) -> None:
        self._table, self._objective = table, objective

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> LinearEstimator:  # noqa: ARG002 - has no rounds
        """Fit once, whatever `rounds` says."""
        alpha = params.get("alpha", ALPHA)
        if isinstance(alpha, str) or not alpha > 0:
            raise TrainingError(f"a linear model cannot be fitted with alpha = {alpha!r}: it must be a number above 0")
        rows = np.arange(len(self._table)) if rows is None else rows
        weights = None if self._table.weights is None else self._table.weights[rows]
        return _fit(self._objective, self._table.matrix[rows], self._table.categories, self._table.labels[rows], weights, alpha)

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:  # noqa: ARG002
        """The metric of one fit; an AUC that a single class leaves undefined counts as that of a coin."""
        table, metric = self._table, self._objective.metric
        predictions = self.fit(params, rounds, train).predict(table.matrix[valid])
        weights = None if table.weights is None else table.weights[valid]
        found = score(self._objective.task, table.labels[valid], predictions, weights)
        return LearningCurve(1, (found.values.get(metric, 0.5),))


class Linear:
    """Logistic and ridge regression."""

    file = FILE
    default_rounds = 1

    def trainer(self, table: TrainingTable, objective: Objective) -> LinearTrainer:
        """A trainer of this table."""
        return LinearTrainer(table, objective)

    def from_bytes(self, content: bytes) -> LinearEstimator:
        """An estimator from its JSON."""
        try:
            estimator = read_stored(LinearEstimator, content, FILE)
        except ValidationError as error:
            raise CorruptVersion(f"{FILE} is not a linear model that this release can read: {error}") from error
        outputs = len(estimator.intercepts)
        if any(term.outputs != outputs for term in estimator.terms) or len(estimator.weights) != estimator.columns:
            raise CorruptVersion(f"{FILE} has terms, weights and intercepts that do not go together; publish it again")
        return estimator

    def import_for_serving(self) -> None:
        """Nothing: numpy is here already."""


LEARNER = Linear()


def standardise(column: Floats, mean: float, scale: float) -> Floats:
    """Distance from the mean in standard deviations, at most ten; 0 for null."""
    with np.errstate(over="ignore"):
        distance = (column - mean) / scale
    return np.clip(np.nan_to_num(distance, nan=0.0, posinf=FARTHEST, neginf=-FARTHEST), -FARTHEST, FARTHEST)


def levels(column: Floats, count: int) -> Indices:
    """Codes of categories as whole numbers, `count` for null and for a code outside of the dictionary."""
    known = (column >= 0) & (column < count)
    return np.where(known, column, count).astype(np.intp)


def link(task: Task, raw: Floats) -> Floats:
    """Raw scores (n, outputs) as the task's: probabilities of true (n,), of classes (n, outputs), or values (n,)."""
    if task == "regression":
        return raw[:, 0]
    if task == "binary":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(raw[:, 0], -700, 700))))
    odds = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _fit(
    objective: Objective, matrix: Floats, categories: tuple[int | None, ...], labels: Floats, weights: Floats | None, alpha: float
) -> LinearEstimator:
    from scipy import sparse

    blank = [_blank(column, size) for column, size in zip(matrix.T, categories, strict=True)]
    blocks = [_block(term, column) for term, column in zip(blank, matrix.T, strict=True)]
    solve = _ridge if objective.task == "regression" else _logistic
    coefficients, intercepts = solve(objective, sparse.hstack(blocks, format="csr"), labels, weights, alpha)
    ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
    terms, spreads = [], []
    for term, column, part in zip(blank, matrix.T, np.split(coefficients, ends, axis=1), strict=True):
        fitted, shift = _fitted_term(term, column, part.T)
        terms.append(fitted)
        intercepts = intercepts + shift
        spreads.append(float(fitted.contribute(column).std(axis=0).sum()))
    return LinearEstimator(task=objective.task, intercepts=tuple(intercepts.tolist()), terms=tuple(terms), weights=tuple(spreads))


def _blank(column: Floats, size: int | None) -> NumericTerm | CategoricalTerm:
    """A term without coefficients."""
    if size is not None:
        return CategoricalTerm(effects=((),) * (size + 1))
    known = column[~np.isnan(column)]
    mean, scale = moments(known) if known.size else (0.0, 0.0)
    return NumericTerm(mean=mean, scale=scale or 1.0, coefficients=())


def _block(term: NumericTerm | CategoricalTerm, column: Floats) -> Any:
    """The columns that a term has in the design matrix, sparse."""
    from scipy import sparse

    if isinstance(term, NumericTerm):
        return sparse.csr_matrix(standardise(column, term.mean, term.scale)[:, np.newaxis])
    codes, rows = levels(column, len(term.effects) - 1), len(column)
    return sparse.csr_matrix((np.ones(rows), codes, np.arange(rows + 1)), shape=(rows, len(term.effects)))


def _fitted_term(
    term: NumericTerm | CategoricalTerm, column: Floats, part: Floats
) -> tuple[NumericTerm | CategoricalTerm, Floats | float]:
    """A term with its rows of the coefficients (columns, outputs), and what goes to the intercept.

    Effects of categories are stored as distances from their mean over the rows, so that the base is that of an average row.
    """
    if isinstance(term, NumericTerm):
        return term.model_copy(update={"coefficients": tuple(part[0].tolist())}), 0.0
    shift = part[levels(column, len(part) - 1)].mean(axis=0)
    return CategoricalTerm(effects=tuple(tuple(row) for row in (part - shift).tolist())), shift


def _ridge(_objective: Objective, design: Any, labels: Floats, weights: Floats | None, alpha: float) -> tuple[Floats, Floats]:
    """Coefficients (1, columns) and intercept (1,)."""
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-8).fit(design, labels, sample_weight=weights)
    return fitted.coef_.reshape(1, -1), np.array([fitted.intercept_])


def _logistic(objective: Objective, design: Any, labels: Floats, weights: Floats | None, alpha: float) -> tuple[Floats, Floats]:
    """Coefficients (outputs, columns) and intercepts (outputs,); binary models have one output, the log-odds of true."""
    seen = np.unique(labels).astype(np.intp)
    coefficients = np.zeros((max(objective.classes, 2), design.shape[1]))
    intercepts = np.full(len(coefficients), ABSENT)
    coefficients[seen], intercepts[seen] = _logits(design, labels, weights, alpha, len(seen))
    if objective.task == "binary":
        return np.diff(coefficients, axis=0), np.diff(intercepts)
    return coefficients, intercepts


def _logits(design: Any, labels: Floats, weights: Floats | None, alpha: float, classes: int) -> tuple[Floats, Floats]:
    """Coefficients and intercepts of the classes that occur; scikit-learn gives only the second of two, and refuses one."""
    from sklearn.linear_model import LogisticRegression

    if classes == 1:
        return np.zeros((1, design.shape[1])), np.zeros(1)
    fitted = LogisticRegression(C=1 / alpha, max_iter=MAX_ITERATIONS).fit(design, labels, sample_weight=weights)
    coefficients, intercepts = np.asarray(fitted.coef_), np.asarray(fitted.intercept_)
    if classes == 2:
        return np.vstack([np.zeros_like(coefficients), coefficients]), np.array([0.0, intercepts[0]])
    return coefficients, intercepts
