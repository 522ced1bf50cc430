"""The scorer: the same bits as LightGBM's own prediction, for every task, and nothing left behind."""

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.model import from_files, to_files
from perennial.spec import Task
from tests.support import models

VALUES = st.floats(-10, 10) | st.floats() | st.just(float("nan"))


@pytest.mark.parametrize("task", models.TASKS)
def test_scores_are_those_of_the_booster_bit_for_bit(task: Task) -> None:
    model = models.small_model(task)
    matrix = model.compiled.matrix(models.small_frame(task, rows=500, seed=3))
    score = model.estimator.row_scorer()
    assert [score(row) for row in matrix.tolist()] == model.predict_matrix(matrix).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, st.sampled_from([0.0, 1.0, 2.0, 7.0, float("nan")])), min_size=1, max_size=5))
def test_odd_numbers_are_scored_alike(rows: list[tuple[float, float]]) -> None:
    model = models.small_model()
    score = model.estimator.row_scorer()
    assert list(map(score, rows)) == model.predict_matrix(np.array(rows)).tolist()


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        models.small_model().estimator.row_scorer()([1.0])


def test_a_scorer_keeps_its_booster_and_lets_it_go() -> None:
    files = to_files(models.small_model())
    model = from_files(files, base=models.Path())
    booster, score = weakref.ref(model.estimator.booster), model.estimator.row_scorer()
    expected = model.predict_matrix(np.array([[0.5, 1.0]]))[0]
    del model
    gc.collect()
    assert score([0.5, 1.0]) == expected
    del score
    gc.collect()
    assert booster() is None


def test_one_scorer_answers_threads_with_their_own_rows() -> None:
    """Without the lock a thread would read the score of the row that another wrote meanwhile."""
    model, frame = models.small_model("multiclass"), models.small_frame("multiclass", rows=400, seed=3)
    matrix = model.compiled.matrix(frame)
    score, before = model.estimator.row_scorer(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(score, matrix.tolist() * 5))
    finally:
        sys.setswitchinterval(before)
    assert found == model.predict_matrix(matrix).tolist() * 5
