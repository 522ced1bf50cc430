"""Train the matrix: a model at each window's start, by the product's own training, scored on every later window.

The search is made once, on the rows of the first boundary, as a life without searches in its retrainings would. Rounds are the
median of those chosen so far, so there are two passes over the boundaries: one chooses rounds, one fits and scores. Each step of
a pass stands alone: threads of this process do them, or whatever a flow's task runner reaches. What is done is kept in files
and not done again. A boundary costs two trainings and one prediction of all later rows; its model is kept for the probes.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from prefect import Task, unmapped

from monitoring.avoidable_loss import block_sums, day_blocks
from monitoring.drift import measure_drift
from monitoring.measurement import loss_metric
from perennial.arrays import Floats
from perennial.base import StoredModel
from perennial.labels import LabelCodec
from perennial.learner import Estimator
from perennial.learners.declarations import AUTO, Params
from perennial.metrics import row_losses, score
from perennial.profile import count_profile
from perennial.signals import SignalInput, measure_signals
from perennial.spec import ModelSpec
from tasks.backtest.history import History
from tasks.backtest.loss_matrix import Cell, LossMatrix, MatrixRow
from tasks.backtest.probes import Probes
from tasks.backtest.trainings import fitted_at, read, require_contrast, single_threaded, training_data, write
from tasks.job import Job
from tasks.task_defaults import local_task, spread
from tasks.training.fit import choose_rounds, make_trainer
from tasks.training.learner_choice import compare_learners, with_learner
from tasks.training.training_data import TrainingData, build_training_data, reference_profile
from tasks.training.tune import tune

Times = NDArray[np.datetime64]
Distances = dict[str, float]  # by feature

Item = TypeVar("Item")
Done = TypeVar("Done")

logger = logging.getLogger(__name__)


class KeptParams(StoredModel):
    """What the one search found; `learner` where the spec leaves it open."""

    params: Params
    learner: str | None = None


class KeptRounds(StoredModel):
    """The rounds of a boundary; `chosen` by its newest rows, where there are enough of them."""

    rounds: int
    chosen: bool


def search_once(history: History) -> History:
    """The history with the parameters that a search on the rows before the first boundary finds, or found before."""
    spec, file = history.job.spec, history.directory / "params.json"
    kept = read(KeptParams, file)
    if kept is None:
        logger.info("searching parameters on the rows before %s", history.windows[history.first].start.date())
        rows = history.known(history.first)
        require_contrast(spec, rows, history.windows[history.first].start)
        data = build_training_data.fn(history.job, rows, history.manifest)
        kept = _search(history.job, data)
        write(file, kept)
    job = history.job if kept.learner is None else with_learner(history.job, kept.learner)
    return replace(history, job=job, params=kept.params)


def _search(job: Job, data: TrainingData) -> KeptParams:
    if job.spec.learner == AUTO:
        chosen, tuned = compare_learners(job, data, tune.fn)
        return KeptParams(params=tuned.params, learner=chosen.spec.learner)
    return KeptParams(params={**tune.fn(job, data, job.spec.search.trials).params, **job.spec.search.params})


class Runner(Protocol):
    """Does one step for each of some items, and returns what comes of them in their order."""

    def __call__(self, step: "Task[[History, Item], Done]", history: History, items: Sequence[Item]) -> list[Done]: ...


def in_flow(step: "Task[[History, Item], Done]", history: History, items: Sequence[Item]) -> list[Done]:
    """By the task runner of the flow in which this is called."""
    futures: Any = step.map(unmapped(spread(history)), list(items))
    found: list[Done] = futures.result()
    return found


def in_threads(step: "Task[[History, Item], Done]", history: History, items: Sequence[Item]) -> list[Done]:
    """By threads of this process, one for each core, without Prefect."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda item: step.fn(history, item), items))


def train_matrix(history: History, run: Runner = in_flow) -> LossMatrix:
    """The loss matrix of a history whose parameters are known; a step that was done before is read."""
    newest_first = history.boundaries[::-1]  # the longest first, so that no core waits for the last one
    chosen = dict(zip(newest_first, run(choose_at, history, newest_first), strict=True))
    steps = [(boundary, _median_until(boundary, chosen)) for boundary in newest_first]
    rows = {row.boundary: row for row in run(train_at, history, steps)}
    metric, lateness = loss_metric(history.job.spec), history.job.spec.window.lateness
    probes = Probes(history, {boundary: row.rounds for boundary, row in rows.items()})
    return LossMatrix(history.windows, rows, history.counts, metric, history.first, lateness, history.ahead, probes)


def _median_until(boundary: int, kept: Mapping[int, KeptRounds]) -> int:
    """The median of the rounds chosen so far, as a training and its ancestors would have it."""
    chosen = [one.rounds for earlier, one in kept.items() if earlier <= boundary and one.chosen]
    return int(median(chosen)) if chosen else kept[boundary].rounds


@local_task("choose rounds")
def choose_at(history: History, boundary: int) -> KeptRounds:
    """The rounds that the newest rows before a boundary bear."""
    file = history.directory / f"rounds-{boundary}.json"
    kept = read(KeptRounds, file)
    if kept is None:
        job, data = single_threaded(history.job), training_data(history, boundary)
        rounds, curve = choose_rounds(job, data.table, make_trainer(job, data), history.params)
        kept = KeptRounds(rounds=rounds, chosen=bool(curve))
        write(file, kept)
        _log_progress(history, "rounds chosen at")
    return kept


@local_task("train and score")
def train_at(history: History, step: tuple[int, int]) -> MatrixRow:
    """Fit the model of a boundary for so many rounds, and score it on every later window."""
    boundary, rounds = step
    file = history.directory / f"row-{boundary}.json"
    kept = read(MatrixRow, file)
    if kept is None or kept.rounds != rounds:
        data, estimator = fitted_at(history, boundary, rounds)
        kept = MatrixRow(boundary=boundary, rounds=rounds, cells=tuple(score_windows(history, boundary, data, estimator)))
        write(file, kept)
        _log_progress(history, "models trained of")
    return kept


def score_windows(history: History, boundary: int, data: TrainingData, estimator: Estimator) -> Iterator[Cell | None]:
    """A model on every later window; one of before the first boundary only on the window that it begins."""
    job, windows = history.job, history.windows[boundary:] if boundary >= history.first else history.windows[boundary:][:1]
    start = history.before(windows[0].start)
    rows = history.rows.slice(start, history.before(windows[-1].end) - start)
    table = data.compiled.table(rows)
    scores = estimator.predict(data.compiled.codes(table)) if rows.height else np.empty(0)
    labels = LabelCodec(job.spec.task, data.classes).encode_column(rows[job.spec.target])
    profile = reference_profile(data, estimator)
    times = rows[job.spec.event_time].dt.replace_time_zone(None).to_numpy()
    for window in windows:
        inside = slice(history.before(window.start) - start, history.before(window.end) - start)
        part = table[inside]
        if part.height < job.spec.window.min_rows:
            yield None
            continue
        drift = measure_drift(profile, count_profile(part, profile))
        distances = {name: one.total for name, one in drift.distances.items()}
        yield judge(job.spec, labels[inside], scores[inside], times[inside], drift.total, distances)


def judge(spec: ModelSpec, labels: Floats, scores: Floats, times: Times, drift: float | None, distances: Distances) -> Cell:
    """What the account and the signals need of one model on one window."""
    metric = loss_metric(spec)
    sums = block_sums(row_losses(spec.task, labels, scores, metric), day_blocks(times))
    found = SignalInput(metric, drift, distances, score(spec.task, labels, scores).values, labels, scores)
    return Cell(sums=tuple(sums.tolist()), signals=measure_signals(spec.task, found), distances=distances)


def _log_progress(history: History, what: str) -> None:
    done = len(list(history.directory.glob("row-*.json" if "models" in what else "rounds-*.json")))
    logger.info("%d %s %d (data = %s)", done, what, len(history.boundaries), history.job.spec.retrain.data)
