"""Probes of a history: the monitor's, on the rows that it would have; made once."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.probe import ProbeRows, probe
from perennial.labels import LabelCodec
from perennial.learner import Objective
from perennial.spec import ModelSpec, Task
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.simulate import Life
from tasks.backtest.study import PROBED, Study
from tasks.backtest.train_matrix import in_threads, search_once, train_matrix
from tasks.training.fit import make_trainer
from tasks.training.training_data import build_training_data
from tests.support.models import START, TASKS
from tests.tasks.backtest.test_train_matrix import WEEK, history_of


@pytest.mark.parametrize("task", TASKS)
def test_a_probe_is_the_monitors_on_the_rows_since_the_training(task: Task, tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path, task))
    matrix = train_matrix(history, in_threads)
    rows, target = history.rows, history.job.spec.target
    data = build_training_data.fn(history.job, rows.filter(pl.col("asked_at") < START + 3 * WEEK), history.manifest)
    estimator = make_trainer(history.job, data).fit(history.params, matrix.rows[3].rounds)

    def week(number: int) -> ProbeRows:
        inside = pl.col("asked_at").is_between(START + number * WEEK, START + (number + 1) * WEEK, closed="left")
        found = rows.filter(inside)
        matrix = data.compiled.matrix(found)
        labels = LabelCodec(task, data.classes).encode_column(found[target])
        return ProbeRows(matrix, labels, found["asked_at"].dt.replace_time_zone(None).to_numpy(), estimator.predict(matrix))

    objective = Objective(task, history.job.spec.objective_metric, len(data.classes), seed=0, threads=1)
    metric = "rmse" if task == "regression" else "log_loss"
    expected = probe(objective, metric, data.compiled.features, week(5), [week(4), week(3)])
    assert expected is not None
    assert matrix.probes is not None
    assert matrix.probes(3, 5) == expected.difference
    assert matrix.losses[3, 5] == pytest.approx(expected.champion_loss)
    assert matrix.probes(3, 3) is None, "in the window that follows the training there is nothing to learn from"


def test_a_probe_is_made_once_and_a_study_has_its_policy(tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path))
    matrix = train_matrix(history, in_threads)
    found = lived(matrix, history.job.spec)
    kept = {file: file.stat().st_mtime_ns for file in history.directory.glob("probes-*")}
    assert kept
    again = train_matrix(history, in_threads)
    assert lived(again, history.job.spec) == found
    assert {file: file.stat().st_mtime_ns for file in history.directory.glob("probes-*")} == kept


def test_a_model_whose_file_is_gone_is_fitted_again(tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path))
    matrix = train_matrix(history, in_threads)
    assert matrix.probes is not None
    first = matrix.probes(3, 5)
    for file in (*history.directory.glob("probes-*"), *history.directory.glob("*-model.txt")):
        file.unlink()
    again = train_matrix(history, in_threads).probes
    assert again is not None
    assert again(3, 5) == first
    assert np.isfinite(first.excess if first else np.nan)


def lived(matrix: LossMatrix, spec: ModelSpec) -> Life:
    study = Study(matrix, spec)
    return study.policies()[PROBED](0.2)
