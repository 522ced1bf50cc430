"""What every learner promises, for every task: a learner that is added to the table is tested here without another line."""

from pathlib import Path

import numpy as np
import pytest

from perennial.arrays import Floats
from perennial.errors import CorruptVersion
from perennial.learner import Estimator, Learner, Objective, Trainer, load_learner
from perennial.learners.declarations import LEARNERS, Params, Range, refuse_foreign
from perennial.metrics import score
from perennial.model import from_files, to_files
from perennial.spec import Task
from tests.support.models import TASKS, small_frame, small_model, small_spec, small_table

EVERY_LEARNER = pytest.mark.parametrize("name", LEARNERS)
EVERY_TASK = pytest.mark.parametrize("task", TASKS)
SAME = {"rtol": 1e-9, "atol": 1e-9}
CLASSES = {"binary": 0, "regression": 0, "multiclass": 3}
ROUNDS = 20


def trainer(name: str, task: Task, seed: int = 0, rows: int = 1_000) -> Trainer:
    spec = small_spec(task, name)
    objective = Objective(task, spec.objective_metric, CLASSES[task], seed, threads=1)
    return load_learner(name).trainer(small_table(spec, small_frame(task, rows)), objective)


def fitted(name: str, task: Task, params: Params | None = None, seed: int = 0) -> Estimator:
    return trainer(name, task, seed).fit(params or {}, ROUNDS)


def rows(task: Task, count: int = 200) -> Floats:
    """Encoded rows, among them nulls, categories outside of the dictionary and numbers far away."""
    matrix = small_model(task).compiled.matrix(small_frame(task, count, seed=5))
    matrix[::7, 0], matrix[1::7, 0], matrix[2::7, 0] = np.nan, 1e300, -1e300
    matrix[::5, 1], matrix[1::5, 1] = np.nan, 4_000.0
    return matrix


def raw_to_score(task: Task, raw: Floats) -> Floats:
    if task == "regression":
        return raw
    odds = np.exp(raw - (raw.max(axis=-1, keepdims=True) if task == "multiclass" else 0))
    return odds / odds.sum(axis=-1, keepdims=True) if task == "multiclass" else odds / (1 + odds)


@EVERY_LEARNER
@EVERY_TASK
def test_scores_have_the_shape_of_the_task_and_are_finite(name: str, task: Task) -> None:
    scores = fitted(name, task).predict(rows(task))
    assert scores.shape == ((200, 3) if task == "multiclass" else (200,))
    assert np.isfinite(scores).all()
    if task != "regression":
        assert ((scores >= 0) & (scores <= 1)).all()
    if task == "multiclass":
        np.testing.assert_allclose(scores.sum(axis=1), 1)


@EVERY_LEARNER
@EVERY_TASK
def test_it_learns(name: str, task: Task) -> None:
    frame = small_frame(task, seed=11)
    model = small_model(task, learner=name)
    values = score(task, model.label_codec.encode_column(frame["outcome"]), model.predict_frame(frame)).values
    good = {"binary": values.get("auc", 0) > 0.8, "multiclass": values.get("accuracy", 0) > 0.6}
    assert good.get(task, values.get("rmse", 9) < 2.5)


@EVERY_LEARNER
@EVERY_TASK
def test_an_estimator_from_its_bytes_gives_the_same_bits(name: str, task: Task) -> None:
    learner, estimator, matrix = load_learner(name), fitted(name, task), rows(task)
    content = estimator.to_bytes()
    again = learner.from_bytes(content)
    np.testing.assert_array_equal(again.predict(matrix), estimator.predict(matrix))
    np.testing.assert_array_equal(again.explain(matrix), estimator.explain(matrix))
    assert (again.columns, again.importance()) == (estimator.columns, estimator.importance())
    assert again.to_bytes() == content
    content.decode()  # it is text


@EVERY_LEARNER
@EVERY_TASK
def test_contributions_add_up_to_the_raw_score(name: str, task: Task) -> None:
    estimator, matrix = fitted(name, task), rows(task)
    contributions = estimator.explain(matrix)
    assert contributions.shape == ((200, 3, 3) if task == "multiclass" else (200, 3))
    np.testing.assert_allclose(raw_to_score(task, contributions.sum(axis=-1)), estimator.predict(matrix), **SAME)


@EVERY_LEARNER
@EVERY_TASK
def test_a_single_row_scores_as_among_many(name: str, task: Task) -> None:
    estimator, matrix = fitted(name, task), rows(task)
    scorer = estimator.row_scorer()
    scores = [scorer(row) for row in matrix.tolist()]
    assert {type(one) for one in scores} == {list if task == "multiclass" else float}
    np.testing.assert_allclose(scores, estimator.predict(matrix), rtol=1e-14)
    with pytest.raises(ValueError, match=r"size|zip"):
        scorer([1.0])


@EVERY_LEARNER
@EVERY_TASK
def test_the_same_seed_gives_the_same_estimator(name: str, task: Task) -> None:
    assert fitted(name, task).to_bytes() == fitted(name, task).to_bytes()


@EVERY_LEARNER
def test_importance_tells_what_matters(name: str) -> None:
    first, second = fitted(name, "binary").importance()
    assert first > 0
    assert second > 0


@EVERY_LEARNER
@EVERY_TASK
def test_a_learning_curve_is_of_the_rows_that_were_held_out(name: str, task: Task) -> None:
    older, newest = np.arange(800), np.arange(800, 1_000)
    curve = trainer(name, task).validate({}, ROUNDS, 5, older, newest)
    table, metric = small_table(small_spec(task), small_frame(task)), small_spec(task).objective_metric
    scores = trainer(name, task).fit({}, curve.rounds, older).predict(table.matrix[newest])
    assert curve.best == pytest.approx(score(task, table.labels[newest], scores).values[metric], rel=1e-6)
    assert 1 <= curve.rounds <= len(curve.values) <= ROUNDS


@EVERY_LEARNER
@EVERY_TASK
def test_rows_that_lack_a_class_can_be_learnt_from(name: str, task: Task) -> None:
    labels = small_table(small_spec(task), small_frame(task)).labels
    some = np.flatnonzero(labels != labels.max())
    scores = trainer(name, task).fit({}, ROUNDS, some).predict(rows(task))
    assert np.isfinite(scores).all()


@EVERY_LEARNER
@pytest.mark.parametrize("content", [b"", b"\xff\xfe nonsense", b"{}", b"tree\n", b'{"format": 1}', b"null"])
def test_foreign_bytes_are_refused_by_the_name_of_the_file(name: str, content: bytes) -> None:
    learner = load_learner(name)
    with pytest.raises(CorruptVersion, match=learner.file):
        learner.from_bytes(content)


@EVERY_LEARNER
def test_half_a_file_is_refused(name: str) -> None:
    learner, content = load_learner(name), fitted(name, "binary").to_bytes()
    with pytest.raises(CorruptVersion, match=learner.file):
        learner.from_bytes(content[: len(content) // 2])


@EVERY_LEARNER
@EVERY_TASK
def test_a_model_goes_through_its_files(name: str, task: Task) -> None:
    model, frame = small_model(task, learner=name), small_frame(task, 50, seed=7)
    files = to_files(model)
    again = from_files(files, Path())
    assert set(files) == {load_learner(name).file, "model.json", "profile.json", "reference.parquet"}
    assert again.card == model.card
    np.testing.assert_array_equal(again.predict_frame(frame), model.predict_frame(frame))
    assert to_files(again) == files


@EVERY_LEARNER
def test_the_files_of_learners_bear_different_names(name: str) -> None:
    learners: list[Learner] = [load_learner(other) for other in LEARNERS if other != name]
    assert load_learner(name).file not in {one.file for one in learners}


@EVERY_LEARNER
def test_the_default_space_can_be_searched(name: str) -> None:
    space = LEARNERS[name].space
    refuse_foreign(name, set(space))
    for end in ("low", "high"):
        params: Params = {key: _bound(span, end) for key, span in space.items()}
        fitted(name, "binary", params)


def _bound(span: Range, end: str) -> float | int:
    value = getattr(span, end)
    return int(value) if span.integer else float(value)
