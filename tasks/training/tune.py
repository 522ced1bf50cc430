"""Tune: look for good LightGBM parameters by TPE over time-ordered folds. The only file that imports hyperopt.

Every random choice comes from the spec's seed: the same table and spec give the same trials.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from perennial import __version__
from perennial.base import FrozenModel
from perennial.model import Model
from perennial.spec import Range, SearchSpec
from tasks.job import Job
from tasks.training.boosting import BINNING, Bins, Params, Table, as_loss, full_params
from tasks.training.split import Indices, forward_chain
from tasks.training.training_data import Material

KEPT = timedelta(days=30)
"""How long a finished search is remembered, so that a training that failed later need not search again."""

_STARTUP = 3
"""One trial in this many is random before TPE begins to learn; hyperopt's own 20 would make a short search all random."""


class Trial(FrozenModel):
    """One point of the search: its parameters, the mean metric over the folds (as a loss), and each fold's."""

    number: int
    params: dict[str, float | int | str | bool]
    loss: float
    folds: tuple[float, ...]
    rounds: tuple[int, ...]


class Tuned(FrozenModel):
    """The best parameters found, and every trial in the order it was made; none where the parameters were kept."""

    params: dict[str, float | int | str | bool]
    loss: float | None = None
    trials: tuple[Trial, ...] = ()


def search_params(job: Job, material: Material, trials: int, start: Params | None = None) -> Tuned:
    """Search `trials` points of the spec's space on the training rows, beginning at `start` where one is given."""
    spec = job.spec
    prepare = partial(full_params, spec.task, spec.objective_metric, material.table.classes)
    return search(
        material.table,
        spec.search,
        spec.objective_metric,
        spec.split.folds,
        trials,
        lambda chosen: prepare({**chosen, **spec.search.params}, spec.search.seed, job.threads),
        start,
    )


def search(
    table: Table, spec: SearchSpec, metric: str, folds: int, trials: int, params_of: Any, start: Params | None = None
) -> Tuned:
    """TPE over `spec.space`; `params_of` completes a point to LightGBM parameters. Deterministic in `spec.seed`."""
    import hyperopt
    from hyperopt import tpe

    chain = forward_chain(table.times, folds)
    bins = _SharedBins(table)
    done: list[Trial] = []

    def evaluate(point: Mapping[str, Any]) -> float:
        chosen = _typed(point, spec.space)
        trial = _try(len(done), chosen, params_of(chosen), bins, chain, spec, metric)
        done.append(trial)
        return trial.loss

    hyperopt.fmin(
        evaluate,
        {name: _expression(name, span) for name, span in spec.space.items()},
        algo=partial(tpe.suggest, n_startup_jobs=max(1, math.ceil(trials / _STARTUP))),
        max_evals=trials,
        rstate=np.random.default_rng(spec.seed),
        points_to_evaluate=[_within(start, spec.space)] if start and _within(start, spec.space) else None,
        return_argmin=False,
    )
    best = min(done, key=lambda trial: trial.loss)
    return Tuned(params=best.params, loss=best.loss, trials=tuple(done))


class _SharedBins:
    """Bins of one table, made once unless a trial changes how values are binned."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[str, Bins] = {}

    def for_params(self, params: Mapping[str, Any]) -> Bins:
        key = repr({name: params[name] for name in sorted(BINNING & params.keys())})
        if key not in self._made:
            self._made = {key: Bins(self._table, params)}
        return self._made[key]


def _try(
    number: int,
    chosen: Params,
    params: Mapping[str, Any],
    bins: _SharedBins,
    chain: list[tuple[Indices, Indices]],
    spec: SearchSpec,
    metric: str,
) -> Trial:
    binned = bins.for_params(params)
    fits = [binned.boost_until(params, spec.max_rounds, spec.patience, train, valid) for train, valid in chain]
    losses = tuple(as_loss(metric, fit.best) for fit in fits)
    return Trial(
        number=number, params=chosen, loss=float(np.mean(losses)), folds=losses, rounds=tuple(fit.rounds for fit in fits)
    )


def _expression(name: str, span: Range) -> Any:
    from hyperopt import hp

    low, high = (math.log(span.low), math.log(span.high)) if span.log else (span.low, span.high)
    match span.log, span.integer:
        case True, True:
            return hp.qloguniform(name, low, high, 1)
        case True, False:
            return hp.loguniform(name, low, high)
        case False, True:
            return hp.quniform(name, low, high, 1)
        case _:
            return hp.uniform(name, low, high)


def _typed(point: Mapping[str, Any], space: Mapping[str, Range]) -> Params:
    return {name: round(point[name]) if span.integer else float(point[name]) for name, span in space.items()}


def _within(start: Params | None, space: Mapping[str, Range]) -> dict[str, float]:
    """The start as a point of the space; empty when it lacks a parameter or lies outside."""
    given = {name: float(start[name]) for name in space if start and name in start}
    inside = all(span.low <= given.get(name, math.nan) <= span.high for name, span in space.items())
    return given if inside else {}


def _key(_context: Any, parameters: dict[str, Any]) -> str:
    """What the outcome depends on: rows, spec, number of trials and release."""
    job, material = parameters["job"], parameters["material"]
    told = (
        __version__,
        job.spec.model_dump_json(),
        material.fingerprint,
        len(material.table),
        parameters.get("trials"),
        parameters.get("start"),
    )
    return f"tune-{hashlib.sha256(repr(told).encode()).hexdigest()}"


tune = task(name="tune", cache_policy=CacheKeyFnPolicy(cache_key_fn=_key), cache_expiration=KEPT, persist_result=True)(
    search_params
)


def keep_or_tune(job: Job, material: Material, champion: Model) -> Tuned:
    """The champion's parameters, or a search that begins with them when the spec gives retrainings trials."""
    trials = job.spec.search.retrain_trials
    return tune(job, material, trials, champion.card.params) if trials else Tuned(params=champion.card.params)
