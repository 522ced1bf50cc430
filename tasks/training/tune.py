"""Tune: look for good parameters of the learner by TPE over time-ordered folds. The only file that imports hyperopt.

Every random choice comes from the spec's seed: the same table and spec give the same trials.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from perennial.base import FrozenModel
from perennial.learners.declarations import Params, Range
from perennial.metrics import higher_is_better
from perennial.model import Model
from perennial.version import __version__
from tasks.job import Job
from tasks.training.fit import make_trainer
from tasks.training.split import forward_chain
from tasks.training.training_data import TrainingData

KEPT = timedelta(days=30)
"""How long a finished search is remembered, so that a training that failed later need not search again."""

_STARTUP = 3
"""One trial in this many is random before TPE begins to learn; hyperopt's own 20 would make a short search all random."""


_HALVING = 5
"""A larger table than what is searched on is searched by successive halving (Jamieson and Talwalkar 2016) in two rungs: every
trial sees a fifth of those rows, and the best fifth of the trials all of them."""

_FEWEST = 10_000
"""Rows of the lower rung: with fewer, chance would choose, and there would be no time to save."""


class Trial(FrozenModel):
    """One point of the search on so many rows: its parameters, the mean metric over the folds (as a loss), and each fold's."""

    number: int
    rows: int
    params: Params
    loss: float
    folds: tuple[float, ...]
    rounds: tuple[int, ...]


class ComparedLearner(FrozenModel):
    """One learner of a comparison: its trials, or why it could not learn the rows."""

    learner: str
    metric: str
    trials: tuple[Trial, ...] = ()
    failure: str | None = None

    @property
    def score(self) -> float | None:
        """The metric of the best trial, the mean over the folds."""
        return as_loss(self.metric, min(trial.loss for trial in self.trials)) if self.trials else None

    def __str__(self) -> str:
        found = self.failure or f"{self.metric} {self.score:.5g} in {len(self.trials)} trial{'s' * (len(self.trials) > 1)}"
        return f"{self.learner}: {found}"


class Tuned(FrozenModel):
    """The best parameters found, and every trial in the order it was made; none where the parameters were kept.

    `rows` is how many were searched on, the newest of `known`; `screened` are the trials on fewer rows that chose `trials`
    from among them; `compared` are all learners, the chosen one first, where the spec leaves the learner open.
    """

    params: Params
    rows: int = 0
    known: int = 0
    loss: float | None = None
    trials: tuple[Trial, ...] = ()
    screened: tuple[Trial, ...] = ()
    compared: tuple[ComparedLearner, ...] = ()

    @property
    def learner_scores(self) -> dict[str, float]:
        """The metric of each learner that was compared and could learn."""
        return {one.learner: one.score for one in self.compared if one.score is not None}


def _key(_context: Any, parameters: dict[str, Any]) -> str:
    """What the outcome depends on: rows, spec, number of trials and release."""
    job, data = parameters["job"], parameters["data"]
    known = (__version__, job.spec.model_dump_json(), data.fingerprint, len(data.table))
    inputs = (*known, parameters.get("trials"), parameters.get("start"))
    return f"tune-{hashlib.sha256(repr(inputs).encode()).hexdigest()}"


@task(name="tune", cache_policy=CacheKeyFnPolicy(cache_key_fn=_key), cache_expiration=KEPT, persist_result=True)
def tune(job: Job, data: TrainingData, trials: int, start: Params | None = None) -> Tuned:
    """TPE over `trials` points of the spec's space on the newest training rows, beginning at `start` where one is given.

    Deterministic in the spec's seed. Rows beyond `search.max_rows` cost time and hardly move the choice of parameters; the
    estimator itself learns every row. A table with more rows is searched by halving.
    """
    most, known = job.spec.search.max_rows, len(data.table)
    whole, screened = _Rung(job, data, most), list[Trial]()
    if known > most and most // _HALVING >= _FEWEST:
        screened = _search(job, _Rung(job, data, most // _HALVING), trials, start)
        best = sorted(screened, key=lambda trial: trial.loss)[: math.ceil(trials / _HALVING)]
        found = [whole.evaluate(trial.number, trial.params) for trial in best]
    else:
        found = _search(job, whole, trials, start)
    chosen = min(found, key=lambda trial: trial.loss)
    kept = {"trials": tuple(found), "screened": tuple(screened)}
    return Tuned(params=chosen.params, rows=min(most, known), known=known, loss=chosen.loss, **kept)


class _Rung:
    """The newest rows of a table, on which trials are evaluated."""

    def __init__(self, job: Job, data: TrainingData, rows: int) -> None:
        searched = replace(data, table=data.table.newest(rows))
        self._spec, self._rows = job.spec, len(searched.table)
        self._chain, self._trainer = forward_chain(searched.table.times, job.spec.split.folds), make_trainer(job, searched)

    def evaluate(self, number: int, chosen: Params) -> Trial:
        search, params = self._spec.search, {**chosen, **self._spec.search.params}
        curves = [self._trainer.validate(params, search.max_rounds, search.patience, *fold) for fold in self._chain]
        losses = tuple(as_loss(self._spec.objective_metric, curve.best) for curve in curves)
        rounds = tuple(curve.rounds for curve in curves)
        return Trial(number=number, rows=self._rows, params=chosen, loss=float(np.mean(losses)), folds=losses, rounds=rounds)


def _search(job: Job, rung: _Rung, trials: int, start: Params | None) -> list[Trial]:
    """So many trials of TPE, in their order."""
    import hyperopt
    from hyperopt import tpe

    space, done = job.spec.search_space, list[Trial]()

    def evaluate(point: Mapping[str, Any]) -> float:
        chosen = {name: round(point[name]) if span.integer else float(point[name]) for name, span in space.items()}
        done.append(rung.evaluate(len(done), chosen))
        return done[-1].loss

    hyperopt.fmin(
        evaluate,
        {name: _expression(name, span) for name, span in space.items()},
        algo=partial(tpe.suggest, n_startup_jobs=max(1, math.ceil(trials / _STARTUP))),
        max_evals=trials,
        rstate=np.random.default_rng(job.spec.search.seed),
        points_to_evaluate=[_within(start, space)] if start and _within(start, space) else None,
        return_argmin=False,
        show_progressbar=False,
    )
    return done


def as_loss(metric: str, value: float) -> float:
    """A metric as something to make small."""
    return -value if higher_is_better(metric) else value


def _expression(name: str, span: Range) -> Any:
    from hyperopt import hp

    low, high = (math.log(span.low), math.log(span.high)) if span.log else (span.low, span.high)
    if span.integer:
        return (hp.qloguniform if span.log else hp.quniform)(name, low, high, 1)
    return (hp.loguniform if span.log else hp.uniform)(name, low, high)


def _within(start: Params | None, space: Mapping[str, Range]) -> dict[str, float]:
    """The start as a point of the space; empty when it lacks a parameter or lies outside."""
    given = {name: float(start[name]) for name in space if start and name in start}
    inside = all(span.low <= given.get(name, math.nan) <= span.high for name, span in space.items())
    return given if inside else {}


def keep_or_tune(job: Job, data: TrainingData, champion: Model) -> Tuned:
    """The champion's parameters, or a search that begins with them when the spec gives retrainings trials.

    A champion of another learner has nothing to keep: the search is that of a first training.
    """
    search, known = job.spec.search, champion.card.params
    if champion.card.learner != job.spec.learner:
        return tune(job, data, search.trials)
    return tune(job, data, search.retrain_trials, known) if search.retrain_trials else Tuned(params=known)
