"""The scorer: the same bits as LightGBM's own prediction, for every task, and nothing left behind."""

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.learner import Objective
from perennial.learners import lightgbm
from perennial.learners.declarations import Params
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


@pytest.mark.parametrize(
    "params", [{}, {"bin_construct_sample_cnt": 300}, {"linear_tree": True}, {"max_bin": 15, "zero_as_missing": True}], ids=str
)
@pytest.mark.parametrize("task", models.TASKS)
def test_batches_of_rows_give_the_model_of_the_whole_matrix(task: Task, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightgbm, "BATCH", 64)
    spec, holes = models.small_spec(task), pl.int_range(pl.len()) % 7 == 0
    frame = models.small_frame(task).with_columns(pl.when(~holes).then(pl.col("amount", "shop")))
    table = models.small_table(spec, frame.with_columns(amount=pl.col("amount").round(1)))
    whole = replace(table, matrix=table.matrix[:])
    objective = Objective(task, spec.objective_metric, 3 if task == "multiclass" else 0, seed=0, threads=1)
    batched, plain = (lightgbm.LEARNER.trainer(one, objective) for one in (table, whole))
    for rows in (None, np.arange(500), np.arange(300, 900)):
        assert batched.fit(params, 10, rows).to_bytes() == plain.fit(params, 10, rows).to_bytes()
    curves = [one.validate(params, 20, 5, np.arange(700), np.arange(700, 1_000)) for one in (batched, plain)]
    assert curves[0] == curves[1]


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
