"""The scorer: the same bits as LightGBM's own prediction, for every task, and nothing left behind."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.model import Model, from_files, to_files
from perennial.spec import Task
from service.scorer import make_scorer
from tests.support import models

VALUES = st.floats(-10, 10) | st.floats() | st.just(float("nan"))


def scorer_of(model: Model):  # type: ignore[no-untyped-def]
    return make_scorer(model.booster, model.card.rounds, len(model.card.classes))


@pytest.mark.parametrize("task", models.TASKS)
def test_scores_are_those_of_the_booster_bit_for_bit(task: Task) -> None:
    model = models.small_model(task)
    matrix = model.compiled.matrix(models.small_frame(task, rows=500, seed=3))
    score = scorer_of(model)
    assert [score(row) for row in matrix.tolist()] == model.predict_matrix(matrix).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, st.sampled_from([0.0, 1.0, 2.0, 7.0, float("nan")])), min_size=1, max_size=5))
def test_odd_numbers_are_scored_alike(rows: list[tuple[float, float]]) -> None:
    model = models.small_model()
    assert list(map(scorer_of(model), rows)) == model.predict_matrix(np.array(rows)).tolist()


def test_fewer_rounds_than_the_booster_has_are_kept_to() -> None:
    model = models.small_model()
    score = make_scorer(model.booster, 3, 0)
    matrix = model.compiled.matrix(models.small_frame(rows=20))
    assert [score(row) for row in matrix.tolist()] == model.booster.predict(matrix, num_iteration=3).tolist()


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        scorer_of(models.small_model())([1.0])


def test_a_scorer_keeps_its_booster_and_lets_it_go() -> None:
    files = to_files(models.small_model())
    model = from_files(files, base=models.Path())
    booster, score = weakref.ref(model.booster), scorer_of(model)
    expected = model.predict_matrix(np.array([[0.5, 1.0]]))[0]
    del model
    gc.collect()
    assert score([0.5, 1.0]) == expected
    del score
    gc.collect()
    assert booster() is None
