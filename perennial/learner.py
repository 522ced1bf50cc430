"""The learner seam: what the loop asks of a learning algorithm, and the values that go in and come out.

A `Learner` makes a `Trainer` of a training table once; the trainer fits estimators on parts of its rows. An `Estimator` is a
fitted model of encoded rows that predicts, explains itself and turns into one file and back. Tuning, fitting, calibration,
the registry and the service know these three only. tests/perennial/learners/test_contract.py runs over every learner.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from perennial.arrays import Floats, Indices
from perennial.learners.declarations import Params, declaration
from perennial.spec import Task

RowScorer = Callable[[Sequence[float]], Any]
"""The score of one encoded row, as `Estimator.predict` gives it: a float, or a list with one for each class."""


class Matrix(Protocol):
    """Encoded rows (n, k), as `CompiledFeatures.matrix` makes them: an array, or what gives one for the rows that are asked for
    (`perennial.features.EncodedRows`), so that a large table need not be encoded as a whole.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, rows: Any) -> Any:
        """Rows by slice, places or mask, as an array."""


@dataclass(frozen=True)
class TrainingTable:
    """Rows in order of time: matrix (n, k), coded labels (n,), weights (n,) or None.

    `categories` holds for each column how many categories its dictionary has, or None for a number.
    """

    matrix: Matrix
    labels: Floats
    times: NDArray[np.datetime64]
    weights: Floats | None
    categories: tuple[int | None, ...]

    def __len__(self) -> int:
        return int(self.labels.size)

    def newest(self, rows: int) -> Self:
        """At most so many rows, the newest, with their matrix as an array."""
        weights = None if self.weights is None else self.weights[-rows:]
        return replace(self, matrix=self.matrix[-rows:], labels=self.labels[-rows:], times=self.times[-rows:], weights=weights)


@dataclass(frozen=True)
class Objective:
    """What a training is for: `classes` is 0 but for multiclass; the same seed gives the same estimator."""

    task: Task
    metric: str
    classes: int
    seed: int
    threads: int


@dataclass(frozen=True)
class LearningCurve:
    """The metric on held-out rows after each round; `rounds` is how many were best. Without rounds, one value."""

    rounds: int
    values: tuple[float, ...]

    @property
    def best(self) -> float:
        return self.values[self.rounds - 1]


class Estimator(Protocol):
    """A fitted model of encoded rows; immutable, and usable from several threads at once."""

    @property
    def columns(self) -> int:
        """Columns of the matrix it takes."""

    def predict(self, matrix: Floats) -> Floats:
        """Scores of (n, k) rows, n > 0: (n,) probabilities of true or values, or (n, classes) probabilities."""

    def explain(self, matrix: Floats) -> Floats:
        """What each column adds to the raw score, and last the base value: (n, k + 1), or (n, classes, k + 1)."""

    def importance(self) -> tuple[float, ...]:
        """What each column is worth to the model, not negative, in a unit of the learner's own."""

    def row_scorer(self) -> RowScorer:
        """A function that scores single rows by the fastest way there is."""

    def to_bytes(self) -> bytes:
        """The content of the estimator's file: text, never pickle; the same estimator gives the same bytes."""


class Trainer(Protocol):
    """Fits estimators on rows of one table; what the fits can share (bins, say) is prepared once."""

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> Estimator:
        """Fit `rounds` rounds on these rows, or on all. Raises TrainingError for parameters that cannot be trained with."""

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:
        """Fit on `train` until the metric on `valid` has not improved for `patience` rounds, at most `rounds`."""


class Learner(Protocol):
    """One learning algorithm."""

    file: str  # name of the estimator's file in a version

    default_rounds: int  # rounds where no held-out rows can decide; 1 for a learner without rounds

    def trainer(self, table: TrainingTable, objective: Objective) -> Trainer:
        """A trainer of this table."""

    def from_bytes(self, content: bytes) -> Estimator:
        """The estimator in a file's content; raises CorruptVersion naming the file and what is wrong with it."""

    def import_for_serving(self) -> None:
        """Import what predicting needs and nothing beside; called before a serving process starts its threads."""


def load_learner(name: str) -> Learner:
    """The learner of this name; its module's `LEARNER`. Raises ValueError naming the learners there are."""
    learner: Learner = importlib.import_module(declaration(name).module).LEARNER
    return learner
