"""Fit: one estimator from the training rows, of as many rounds as the newest of them bear.

The newest rows decide the number of rounds, then all rows are fitted for that many: under drift they are the ones a model
can least do without.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from perennial.arrays import Floats, Indices
from perennial.errors import TrainingError
from perennial.features import CompiledFeatures
from perennial.learner import Estimator, Objective, Trainer, TrainingTable, load_learner
from perennial.learners.declarations import Params
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.training_data import TrainingData

NEWEST = 0.1
"""Share of the training rows, the newest, that decides the number of rounds."""

FEW = 50
"""With fewer rows than this on the deciding side, its verdict is noise: the learner's default rounds are taken."""


@dataclass(frozen=True)
class Fitted:
    """An estimator with the features it reads; `curve` is its metric by round on the newest rows, before they were added."""

    estimator: Estimator
    compiled: CompiledFeatures
    classes: tuple[str, ...]
    params: Params
    rounds: int
    curve: tuple[float, ...]
    trainer: Trainer

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Scores of raw rows: (n,), or (n, classes)."""
        return self.estimator.predict(self.compiled.matrix(frame))


def make_trainer(job: Job, data: TrainingData) -> Trainer:
    """A trainer of the spec's learner on the training rows."""
    spec = job.spec
    objective = Objective(spec.task, spec.objective_metric, len(data.classes), spec.search.seed, job.threads)
    return load_learner(spec.learner).trainer(data.table, objective)


@local_task("fit")
def fit(job: Job, data: TrainingData, params: Params) -> Fitted:
    """Fit with the chosen parameters; those that the spec holds fixed win."""
    spec, table = job.spec, data.table
    if not has_contrast(table.labels):
        raise TrainingError(f"target {spec.target!r} is the same in all {len(table):,} training rows: there is nothing to learn")
    search, chosen, trainer = spec.search, {**params, **spec.search.params}, make_trainer(job, data)
    rounds = min(load_learner(spec.learner).default_rounds, search.max_rounds)
    values: tuple[float, ...] = ()
    older, newest = newest_apart(table)
    if newest.size >= FEW and older.size >= FEW and has_contrast(table.labels[newest]):
        curve = trainer.validate(chosen, search.max_rounds, search.patience, older, newest)
        rounds, values = curve.rounds, curve.values
    return Fitted(trainer.fit(chosen, rounds), data.compiled, data.classes, chosen, rounds, values, trainer)


def newest_apart(table: TrainingTable) -> tuple[Indices, Indices]:
    """The newest tenth of the rows apart from the rest; rows of one moment stay together."""
    moment = table.times[int(len(table) * (1 - NEWEST))]
    start = int(np.searchsorted(table.times, moment))
    return np.arange(start), np.arange(start, len(table))


def has_contrast(labels: Floats) -> bool:
    """Whether more than one value occurs, without which neither a fit nor a classifier's metric says anything."""
    known = labels[~np.isnan(labels)]
    return known.size > 0 and bool((known != known[0]).any())
