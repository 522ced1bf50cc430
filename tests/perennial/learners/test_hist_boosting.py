"""Histogram boosting: the scores of scikit-learn's own model from a text without scikit-learn, whatever the rows hold."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from perennial.arrays import Floats
from perennial.errors import TrainingError
from perennial.learner import Objective, TrainingTable, load_learner
from perennial.learners.declarations import LEARNERS
from perennial.learners.hist_boosting import MOST_LEVELS, Levels
from perennial.metrics import score
from perennial.model import to_files
from perennial.spec import METRICS, Task
from tests.support.models import TASKS, small_frame, small_model
from tests.support.processes import python

CLASSES = {"binary": 0, "regression": 0, "multiclass": 3}
PARAMS: dict[str, Any] = {"learning_rate": 0.2, "max_leaf_nodes": 15, "min_samples_leaf": 5}
ROUNDS = 15


def table(task: Task, shops: int = 40, rows: int = 1_500, weighted: bool = False) -> TrainingTable:
    """Two numbers and two categories, nulls that mean high in one column of each kind and low in the other."""
    chance = np.random.default_rng(5)
    matrix = np.column_stack([chance.normal(size=rows), chance.integers(0, shops, rows), chance.normal(size=rows)])
    matrix = np.column_stack([matrix, chance.integers(0, 3, rows)])
    raw = matrix[:, 0] + np.sin(matrix[:, 1]) + 0.3 * matrix[:, 2] + chance.normal(0, 0.3, rows)
    for column, shift in enumerate((1.5, -1.5, -1.5, 1.5)):
        lost = chance.random(rows) < 0.15
        matrix[lost, column], raw = np.nan, raw + lost * shift
    labels = {"binary": raw > 0, "regression": raw, "multiclass": np.digitize(raw, [-0.5, 0.5])}[task].astype(float)
    weights = chance.uniform(0.2, 2, rows) if weighted else None
    return TrainingTable(matrix, labels, np.arange(rows).astype("datetime64[h]"), weights, (None, shops, None, 3))


def objective(task: Task, metric: str | None = None) -> Objective:
    return Objective(task, metric or METRICS[task][0], CLASSES[task], 0, 1)


def own_scores(task: Task, data: TrainingTable, matrix: Floats) -> Floats:
    """What scikit-learn's estimator says of these rows, fitted to the table as it is."""
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    model = kind(categorical_features=[1, 3], max_iter=ROUNDS, early_stopping=False, random_state=0, **PARAMS)
    model.fit(data.matrix, data.labels, sample_weight=data.weights)
    if task == "regression":
        return np.asarray(model.predict(matrix))
    scores = np.asarray(model.predict_proba(matrix))
    return scores if task == "multiclass" else scores[:, 1]


def odd(matrix: Floats) -> Floats:
    """Rows with nulls everywhere, numbers far away, and categories that no training row had."""
    rows = matrix[:400].copy()
    rows[::7, 0], rows[1::7, 0], rows[2::7, 2] = np.nan, 1e300, -1e300
    rows[::5, 1], rows[1::5, 1], rows[::3, 3] = np.nan, 200.0, 7.0
    return rows


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_scikit_learns_own_estimator(task: Task, weighted: bool) -> None:
    data = table(task, weighted=weighted)
    estimator = load_learner("hist_boosting").trainer(data, objective(task)).fit(PARAMS, ROUNDS)
    rows = odd(data.matrix)
    np.testing.assert_allclose(estimator.predict(rows), own_scores(task, data, rows), rtol=1e-9, atol=1e-12)


def test_of_more_categories_than_scikit_learn_takes_the_rarest_share_one() -> None:
    data = table("regression", shops=700, rows=4_000)
    levels = Levels.of(data.matrix[:, 1], 700)
    assert np.unique(levels.level).size == MOST_LEVELS
    encoded = data.matrix.copy()
    encoded[:, 1] = levels.encode(encoded[:, 1])
    merged = TrainingTable(encoded, data.labels, data.times, None, (None, MOST_LEVELS, None, 3))
    estimator = load_learner("hist_boosting").trainer(data, objective("regression")).fit(PARAMS, ROUNDS)
    np.testing.assert_allclose(estimator.predict(data.matrix), own_scores("regression", merged, encoded), rtol=1e-9)


@pytest.mark.parametrize("metric", [*METRICS["binary"], *METRICS["regression"]])
def test_a_curve_is_of_the_metric_that_the_spec_names(metric: str) -> None:
    task: Task = "binary" if metric in METRICS["binary"] else "regression"
    data, older, newest = table(task), np.arange(1_000), np.arange(1_000, 1_500)
    trainer = load_learner("hist_boosting").trainer(data, objective(task, metric))
    curve = trainer.validate(PARAMS, ROUNDS, 5, older, newest)
    scores = trainer.fit(PARAMS, curve.rounds, older).predict(data.matrix[newest])
    assert curve.best == pytest.approx(score(task, data.labels[newest], scores).values[metric], rel=1e-6)


def test_it_stops_when_the_held_out_rows_stop_gaining() -> None:
    data = table("binary")
    curve = (
        load_learner("hist_boosting")
        .trainer(data, objective("binary"))
        .validate({"learning_rate": 0.5}, 400, 5, np.arange(1_000), np.arange(1_000, 1_500))
    )
    assert curve.rounds < len(curve.values) < 100


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_held_out_rows_of_a_class_that_was_not_learnt_count(task: Task) -> None:
    data = table(task)
    lacking, all_rows = np.flatnonzero(data.labels != data.labels.max()), np.arange(1_000, 1_500)
    trainer = load_learner("hist_boosting").trainer(data, objective(task))
    curve = trainer.validate(PARAMS, ROUNDS, 5, lacking[:900], all_rows)
    scores = trainer.fit(PARAMS, curve.rounds, lacking[:900]).predict(data.matrix[all_rows])
    assert curve.best == pytest.approx(score(task, data.labels[all_rows], scores).values["log_loss"], rel=1e-6)


def test_what_scikit_learn_refuses_is_a_training_error_that_says_so() -> None:
    trainer = load_learner("hist_boosting").trainer(table("binary"), objective("binary"))
    with pytest.raises(TrainingError, match=r"scikit-learn cannot boost with .*learning_rate.*-1"):
        trainer.fit({"learning_rate": -1.0}, 3)


def test_its_parameters_are_scikit_learns() -> None:
    assert LEARNERS["hist_boosting"].parameters <= HistGradientBoostingClassifier().get_params().keys()


def test_it_serves_without_scikit_learn(tmp_path: Path) -> None:
    for name, content in to_files(small_model(learner="hist_boosting")).items():
        (tmp_path / name).write_bytes(content)
    small_frame(rows=3).write_parquet(tmp_path / "rows.parquet")
    code = f"""
import sys, pathlib, polars
from perennial.learner import load_learner
from perennial.model import from_files
load_learner("hist_boosting").import_for_serving()
home = pathlib.Path({str(tmp_path)!r})
files = {{file.name: file.read_bytes() for file in home.iterdir()}}
print(len(from_files(files, home).predict_frame(polars.read_parquet(home / "rows.parquet"))), "sklearn" in sys.modules)
"""
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]
