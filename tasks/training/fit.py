"""Fit: one estimator from the training rows, of a number of rounds that does not depend on one training's luck.

The newest tenth of the rows says how many rounds it would bear; neighbouring trainings of one table say very different numbers.
The estimator gets the median of what this training and its ancestors have found. `refit` fits the same recipe, parameters and
rounds, to other rows: to all of them for the version that is published, to those before a window for the model that judges it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from perennial.arrays import Floats, Indices
from perennial.errors import TrainingError
from perennial.features import CompiledFeatures
from perennial.learner import Estimator, Objective, Trainer, TrainingTable, load_learner
from perennial.learners.declarations import Params
from perennial.model_card import ModelCard
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.training_data import TrainingData

NEWEST = 0.1
"""Share of the training rows, the newest, that decides the number of rounds."""

FEW = 50
"""With fewer rows than this on the deciding side, its verdict is noise: the learner's default rounds are taken."""


@dataclass(frozen=True)
class Recipe:
    """What a fit needs beside rows: parameters, rounds, and the numbers of rounds whose median these are."""

    params: Params
    rounds: int
    chosen: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """An estimator with the features it reads; `curve` is the metric by round on the newest rows, where they were asked."""

    estimator: Estimator
    compiled: CompiledFeatures
    classes: tuple[str, ...]
    recipe: Recipe
    curve: tuple[float, ...]
    trainer: Trainer

    @property
    def params(self) -> Params:
        return self.recipe.params

    @property
    def rounds(self) -> int:
        return self.recipe.rounds

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Scores of raw rows: (n,), or (n, classes)."""
        return self.estimator.predict(self.compiled.matrix(frame))


def make_trainer(job: Job, data: TrainingData) -> Trainer:
    """A trainer of the spec's learner on the training rows."""
    spec = job.spec
    objective = Objective(spec.task, spec.objective_metric, len(data.classes), spec.search.seed, job.threads)
    return load_learner(spec.learner).trainer(data.table, objective)


@local_task("fit")
def fit(job: Job, data: TrainingData, params: Params, chosen: tuple[int, ...] = ()) -> Fitted:
    """Fit with these parameters, of which those that the spec holds fixed win; `chosen` are the rounds that ancestors chose."""
    params, trainer = {**params, **job.spec.search.params}, _checked_trainer(job, data)
    rounds, curve = choose_rounds(job, data.table, trainer, params)
    chosen = (*chosen, rounds) if curve else chosen
    median = int(np.median(chosen)) if chosen else rounds
    recipe = Recipe(params, min(median, job.spec.search.max_rounds), chosen)
    estimator = trainer.fit(params, recipe.rounds)
    # A new trainer, for this one holds the bins of all rows, and what comes next fits other rows.
    return Fitted(estimator, data.compiled, data.classes, recipe, curve, make_trainer(job, data))


@local_task("refit")
def refit(job: Job, data: TrainingData, recipe: Recipe) -> Fitted:
    """Fit the same recipe to other rows."""
    trainer = _checked_trainer(job, data)
    return Fitted(trainer.fit(recipe.params, recipe.rounds), data.compiled, data.classes, recipe, (), trainer)


def rounds_so_far(job: Job, params: Params, parent: ModelCard | None) -> tuple[int, ...]:
    """The rounds that the ancestors chose for these parameters; with other ones, another number of rounds is right."""
    same = parent is not None and parent.learner == job.spec.learner and parent.params == {**params, **job.spec.search.params}
    return parent.rounds_chosen if parent is not None and same else ()


def choose_rounds(job: Job, table: TrainingTable, trainer: Trainer, params: Params) -> tuple[int, tuple[float, ...]]:
    """The rounds that the newest rows bear, with the metric after each; where they are too few, the learner's default."""
    search, (older, newest) = job.spec.search, newest_apart(table)
    if newest.size < FEW or older.size < FEW or not has_contrast(table.labels[newest]):
        return min(load_learner(job.spec.learner).default_rounds, search.max_rounds), ()
    curve = trainer.validate(params, search.max_rounds, search.patience, older, newest)
    return curve.rounds, curve.values


def newest_apart(table: TrainingTable) -> tuple[Indices, Indices]:
    """The newest tenth of the rows apart from the rest; rows of one moment stay together."""
    moment = table.times[int(len(table) * (1 - NEWEST))]
    start = int(np.searchsorted(table.times, moment))
    return np.arange(start), np.arange(start, len(table))


def has_contrast(labels: Floats) -> bool:
    """Whether more than one value occurs, without which neither a fit nor a classifier's metric says anything."""
    known = labels[~np.isnan(labels)]
    return known.size > 0 and bool((known != known[0]).any())


def _checked_trainer(job: Job, data: TrainingData) -> Trainer:
    if not has_contrast(data.table.labels):
        rows = f"all {len(data.table):,} training rows"
        raise TrainingError(f"target {job.spec.target!r} is the same in {rows}: there is nothing to learn")
    return make_trainer(job, data)
