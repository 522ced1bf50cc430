"""The linear learner: exact terms, imputed nulls, and a serving process that never sees scikit-learn."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from perennial.errors import CorruptVersion, NewerFormat, TrainingError
from perennial.learner import Objective, TrainingTable, load_learner
from perennial.learners.linear import FARTHEST, LinearEstimator
from perennial.model import to_files
from perennial.spec import Task
from tests.support.models import TASKS, small_frame, small_model
from tests.support.processes import python

NUMBERS, SHOPS = np.array([1.0, 2.0, 3.0, 4.0, np.nan, 8.0]), np.array([0.0, 1.0, 0.0, np.nan, 1.0, 0.0])


def fit(labels: list[float], task: Task = "regression", alpha: float = 1.0, classes: int = 0) -> LinearEstimator:
    matrix = np.column_stack([NUMBERS, SHOPS])
    times = np.arange(6).astype("datetime64[h]")
    table = TrainingTable(matrix, np.array(labels), times, None, (None, 2))
    estimator = load_learner("linear").trainer(table, Objective(task, "rmse", classes, 0, 1)).fit({"alpha": alpha}, 1)
    assert isinstance(estimator, LinearEstimator)
    return estimator


def design() -> np.ndarray:
    known = NUMBERS[~np.isnan(NUMBERS)]
    standard = np.nan_to_num((NUMBERS - known.mean()) / known.std())
    return np.column_stack([standard, SHOPS == 0, SHOPS == 1, np.isnan(SHOPS)])


def test_it_is_scikit_learns_ridge_of_standardised_numbers_and_one_hot_categories() -> None:
    labels = [1.0, 2.5, 2.0, 7.0, 3.0, 9.0]
    expected = Ridge(alpha=0.5).fit(design(), labels).predict(design())
    found = fit(labels, alpha=0.5).predict(np.column_stack([NUMBERS, SHOPS]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_it_is_scikit_learns_logistic_regression() -> None:
    labels = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    expected = LogisticRegression(C=1 / 0.5).fit(design(), labels).predict_proba(design())[:, 1]
    found = fit(labels, "binary", alpha=0.5).predict(np.column_stack([NUMBERS, SHOPS]))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_an_average_row_has_the_base_alone() -> None:
    estimator = fit([1.0, 2.5, 2.0, 7.0, 3.0, 9.0])
    contributions = estimator.explain(np.column_stack([NUMBERS, SHOPS]))
    np.testing.assert_allclose(contributions[:, :2].mean(axis=0), 0, atol=1e-12)
    assert contributions[4, 0] == 0, "a null counts as the mean"
    np.testing.assert_allclose(estimator.importance(), contributions[:, :2].std(axis=0))


def test_numbers_are_cut_and_unknown_categories_count_as_null() -> None:
    estimator = fit([1.0, 2.5, 2.0, 7.0, 3.0, 9.0])
    far, farther, null, unknown = estimator.predict(
        np.array([[3.6 + 100 * FARTHEST, 0.0], [1e308, 0.0], [3.0, np.nan], [3.0, 17.0]])
    )
    assert far == farther
    assert null == unknown


def test_a_column_without_a_value_says_nothing() -> None:
    times = np.arange(4).astype("datetime64[h]")
    matrix = np.column_stack([np.full(4, np.nan), np.full(4, np.nan), np.full(4, 7.0)])
    table = TrainingTable(matrix, np.array([1.0, 2.0, 3.0, 4.0]), times, None, (None, 0, None))
    estimator = load_learner("linear").trainer(table, Objective("regression", "rmse", 0, 0, 1)).fit({}, 1)
    np.testing.assert_allclose(estimator.predict(matrix), 2.5)


@pytest.mark.parametrize("task", TASKS)
def test_serving_it_loads_neither_scikit_learn_nor_lightgbm(task: Task, tmp_path: Path) -> None:
    model = small_model(task, learner="linear")
    for name, content in to_files(model).items():
        (tmp_path / name).write_bytes(content)
    small_frame(task, rows=20).write_parquet(tmp_path / "rows.parquet")
    code = (
        "import sys, pathlib, polars\n"
        "from perennial.learner import load_learner\nfrom perennial.model import from_files\n"
        "here = pathlib.Path(sys.argv[1])\nload_learner('linear').import_for_serving()\n"
        "files = {path.name: path.read_bytes() for path in here.iterdir() if path.name != 'rows.parquet'}\n"
        "model, rows = from_files(files, here), polars.read_parquet(here / 'rows.parquet')\n"
        "model.predict_frame(rows), model.explain_matrix(model.compiled.matrix(rows)), model.estimator.row_scorer()\n"
        "print([name for name in ('sklearn', 'scipy', 'lightgbm', 'pandas') if name in sys.modules])\n"
    )
    done = subprocess.run(python("-c", code, str(tmp_path)), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parts_that_do_not_go_together_are_refused() -> None:
    estimator = fit([1.0, 2.5, 2.0, 7.0, 3.0, 9.0])
    learner = load_learner("linear")
    two = estimator.model_copy(update={"intercepts": (1.0, 2.0)})
    with pytest.raises(CorruptVersion, match=r"(?s)linear\.json .*do not go together"):
        learner.from_bytes(two.to_bytes())
    with pytest.raises(NewerFormat, match=r"linear\.json was written by a newer release"):
        learner.from_bytes(estimator.to_bytes().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), "much"])
def test_a_penalty_of_no_meaning_is_refused(alpha: float) -> None:
    with pytest.raises(TrainingError, match="alpha = "):
        fit([1.0, 2.5, 2.0, 7.0, 3.0, 9.0], alpha=alpha)
