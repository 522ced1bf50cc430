"""From training data to a model that can answer: fitted, evaluated, calibrated, published, judged. All tasks go one way."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.calibration import Calibration
from perennial.arrays import Indices
from perennial.errors import TrainingError
from perennial.learner import Estimator, LearningCurve, Trainer
from perennial.learners.declarations import LEARNERS, Params
from perennial.learners.lightgbm import TreeEstimator
from perennial.model import Model
from perennial.model_card import Cause
from perennial.spec import ModelSpec, Task
from tasks.job import Job
from tasks.promotion.publish import publish, read_champion
from tasks.training.assemble import assemble, git_commit
from tasks.training.calibrate import TRAININGS, calibrate_bounds
from tasks.training.evaluate import Evaluation, calibration_table, evaluate
from tasks.training.fit import Fitted, Recipe, fit, newest_apart, refit, rounds_so_far
from tasks.training.split import split_newest
from tasks.training.training_data import TrainingData
from tests.support.models import ROWS, TASKS, small_frame, small_model, small_spec
from tests.tasks.making import make_job, make_training

PARAMS: Params = {"learning_rate": 0.2, "num_leaves": 7}


def trained(job: Job, params: Params = PARAMS) -> tuple[TrainingData, Fitted, Evaluation, Model]:
    split = split_newest.fn(small_frame(job.spec.task), job.spec.event_time, job.spec.split.test)
    data = make_training(job, split.train)
    fitted = fit.fn(job, data, params)
    evaluation = evaluate.fn(job, fitted, split.test)
    return data, fitted, evaluation, assemble.fn(job, data, fitted, evaluation, Cause(kind="initial"), None)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("task", TASKS)
def test_a_published_model_answers_as_the_fitted_one(tmp_path: Path, task: Task, learner: str) -> None:
    job = replace(make_job(tmp_path, task), spec=small_spec(task, learner))
    params = PARAMS if learner == "lightgbm" else {}
    data, fitted, evaluation, draft = trained(job, params)
    bounds = calibrate_bounds(job, draft, data, fitted).bounds
    model = publish.fn(job, draft, bounds)
    frame = small_frame(task, 50, seed=3)
    np.testing.assert_allclose(model.predict_frame(frame), fitted.predict(frame), rtol=1e-12)
    card = model.card
    assert (card.version, card.task, card.cause.kind, card.parent) == (1, task, "initial", None)
    assert card.data.rows == ROWS - 7 * 24
    assert card.until == small_frame(task)["asked_at"][card.data.rows - 1]
    assert card.params == params
    assert card.metrics == evaluation.metrics
    assert {one.value for one in card.slices} == {"north", "east", "south"}
    assert card.bounds == bounds
    assert job.registry.aliases("small").challenger == 1
    assert read_champion.fn(job) is None


@pytest.mark.parametrize("task", TASKS)
def test_a_model_learns_something(tmp_path: Path, task: Task) -> None:
    _, fitted, evaluation, _ = trained(make_job(tmp_path, task))
    values = evaluation.metrics.values
    good = {"binary": values.get("auc", 0) > 0.8, "regression": values.get("rmse", 9) < 2.5}
    assert good.get(task, values.get("accuracy", 0) > 0.6)
    assert 1 <= fitted.rounds <= 40
    assert len(fitted.curve) >= fitted.rounds
    assert isinstance(fitted.estimator, TreeEstimator)
    assert fitted.estimator.booster.num_trees() == fitted.rounds * max(1, len(fitted.classes))


def test_the_same_material_gives_the_same_model(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    data = make_training(job, small_frame())
    first, again = (fit.fn(job, data, PARAMS).estimator.to_bytes() for _ in range(2))
    assert first == again


def test_parameters_of_the_spec_are_held_fixed(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    raw = job.spec.model_dump()
    spec = ModelSpec.model_validate({**raw, "search": {**raw["search"], "params": {"num_leaves": 3}}})
    fitted = fit.fn(replace(job, spec=spec), make_training(job, small_frame()), PARAMS)
    assert fitted.params["num_leaves"] == 3


def test_a_parameter_that_lightgbm_refuses_is_named(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    with pytest.raises(TrainingError, match=r"LightGBM cannot train with .*'num_leaves': 1"):
        fit.fn(job, make_training(job, small_frame()), {"num_leaves": 1})


def test_too_few_rows_to_stop_by_take_a_fixed_number_of_rounds(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    fitted = fit.fn(job, make_training(job, small_frame(rows=120)), PARAMS)
    assert (fitted.rounds, fitted.curve) == (job.spec.search.max_rounds, ())


def test_the_rounds_are_the_median_of_those_that_this_training_and_its_ancestors_chose(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    data = make_training(job, small_frame())
    alone = fit.fn(job, data, PARAMS)
    assert alone.recipe == Recipe(alone.params, alone.rounds, (alone.rounds,))
    later = fit.fn(job, data, PARAMS, (3, 3))
    assert later.recipe == Recipe(alone.params, 3, (3, 3, alone.rounds))
    assert isinstance(later.estimator, TreeEstimator)
    assert later.estimator.booster.num_trees() == 3
    assert fit.fn(job, data, PARAMS, (1_000, 1_000)).rounds == job.spec.search.max_rounds


def test_a_training_without_rows_to_choose_by_takes_its_ancestors_rounds_and_adds_none(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert fit.fn(job, make_training(job, small_frame(rows=120)), PARAMS, (5, 7)).recipe == Recipe(PARAMS, 6, (5, 7))


def test_a_refit_has_the_recipe_and_learns_the_rows_it_is_given(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    judge = fit.fn(job, make_training(job, small_frame(rows=800)), PARAMS, (3, 3))
    whole = refit.fn(job, make_training(job, small_frame()), judge.recipe)
    assert whole.recipe == judge.recipe
    assert whole.estimator.to_bytes() != judge.estimator.to_bytes()
    assert whole.estimator.to_bytes() == fit.fn(job, make_training(job, small_frame()), PARAMS, (3, 3)).estimator.to_bytes()


def test_other_parameters_begin_a_history_of_their_own(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    card = small_model().card.model_copy(update={"rounds_chosen": (3, 4), "params": PARAMS})
    assert rounds_so_far(job, PARAMS, card) == (3, 4)
    assert rounds_so_far(job, {**PARAMS, "num_leaves": 31}, card) == ()
    assert rounds_so_far(job, PARAMS, None) == ()


def test_weights_matter(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    data = make_training(job, small_frame())
    weights = np.linspace(0, 2, len(data.table))
    weighted = replace(data, table=replace(data.table, weights=weights))
    plain, changed = (fit.fn(job, one, PARAMS).estimator.to_bytes() for one in (data, weighted))
    assert plain != changed


def test_the_newest_rows_stop_the_boosting(tmp_path: Path) -> None:
    table = make_training(make_job(tmp_path), small_frame()).table
    older, newest = newest_apart(table)
    assert (older.size, newest.size) == (900, 100)
    assert table.times[older].max() < table.times[newest].min()


def test_calibration_rows_hold_as_many_predictions_each() -> None:
    predictions = np.linspace(0, 1, 100)
    rows = calibration_table((predictions > 0.5).astype(float), predictions)
    assert [row.rows for row in rows] == [10] * 10
    assert [row.observed for row in rows] == [0.0] * 5 + [1.0] * 5
    assert rows[0].predicted == pytest.approx(predictions[:10].mean())
    confident = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert {(row.predicted, row.observed) for row in calibration_table(np.array([0.0, 0.0]), confident)} == {
        (0.9, 1.0),
        (0.8, 0.0),
    }


def test_rows_of_an_unknown_class_count_as_wrong_in_the_evaluation(tmp_path: Path) -> None:
    job = make_job(tmp_path, "multiclass")
    fitted = fit.fn(job, make_training(job, small_frame("multiclass")), PARAMS)
    test = small_frame("multiclass", 60, seed=5).with_columns(
        outcome=pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("new")).otherwise("outcome")
    )
    metrics = evaluate.fn(job, fitted, test).metrics
    assert metrics.rows == 60
    assert metrics.values["accuracy"] <= 50 / 60


class RecordingTrainer:
    """Fits as the trainer that it holds, and notes which rows each fit was given."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.rows = trainer, list[Indices]()

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> Estimator:
        assert rows is not None
        self.rows.append(rows)
        return self.trainer.fit(params, rounds, rows)

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:
        raise AssertionError("a calibration searches nothing")


class TestBounds:
    """Calibration from a rolling origin: windows are judged by models that were trained before them."""

    def test_an_ordinary_window_lies_within_them(self, tmp_path: Path) -> None:
        job = make_job(tmp_path)
        data, fitted, _, draft = trained(job)
        bounds = calibrate_bounds(job, draft, data, fitted).bounds
        assert 0 < bounds["drift"] < 1
        assert 0 < bounds["loss"] < np.log(2)
        assert 0.5 < bounds["auc"] < 1

    def test_they_are_the_same_each_time(self, tmp_path: Path) -> None:
        job = make_job(tmp_path)
        data, fitted, _, draft = trained(job)
        assert calibrate_bounds(job, draft, data, fitted) == calibrate_bounds(job, draft, data, fitted)

    @pytest.mark.parametrize(
        ("weeks", "most", "every", "known"),
        [(6, 8, 4, (3,)), (6, 8, 1, (3, 4, 5)), (12, 8, 4, (6, 9)), (12, 8, 1, (6, 7, 9, 10)), (12, 3, 2, (9, 10))],
    )
    def test_a_judge_knows_the_rows_before_its_windows_and_no_others(
        self, tmp_path: Path, weeks: int, most: int, every: int, known: tuple[int, ...]
    ) -> None:
        job = with_blocks(make_job(tmp_path), most, every)
        data = make_training(job, small_frame(rows=weeks * 7 * 24))
        fitted = fit.fn(job, data, PARAMS)
        recording = RecordingTrainer(fitted.trainer)
        draft = assemble.fn(job, data, fitted, evaluate.fn(job, fitted, small_frame(rows=50)), Cause(kind="initial"), None)
        found = calibrate_bounds(job, draft, data, replace(fitted, trainer=recording))
        assert [rows.size for rows in recording.rows] == [week * 7 * 24 for week in known]
        assert all((rows == np.arange(rows.size)).all() for rows in recording.rows)
        assert len(recording.rows) <= TRAININGS
        assert list(found.bounds) == ["drift", "loss", "auc", "calibration", "base_rate"]

    @pytest.mark.parametrize("weeks", [2, 3, 3.8])
    def test_fewer_than_three_windows_with_a_past_give_none(self, tmp_path: Path, weeks: float) -> None:
        job, hours = make_job(tmp_path), int(weeks * 7 * 24)
        data = make_training(job, small_frame(rows=hours))
        fitted = fit.fn(job, data, PARAMS)
        draft = assemble.fn(job, data, fitted, evaluate.fn(job, fitted, small_frame(rows=50)), Cause(kind="initial"), None)
        assert calibrate_bounds(job, draft, data, fitted) == Calibration(bounds={}, blocks=int(weeks) - 1)

    def test_windows_that_the_monitor_would_not_judge_do_not_count(self, tmp_path: Path) -> None:
        job = make_job(tmp_path)
        data, fitted, _, draft = trained(job)
        raw = job.spec.model_dump()
        spec = ModelSpec.model_validate({**raw, "window": {**raw["window"], "min_rows": 500}})
        assert calibrate_bounds(replace(job, spec=spec), draft, data, fitted) == Calibration(bounds={}, blocks=0)

    @pytest.mark.parametrize("task", TASKS)
    def test_the_scores_of_the_judges_calibrate_the_confidence(self, tmp_path: Path, task: Task) -> None:
        job = make_job(tmp_path, task)
        data, fitted, _, draft = trained(job)
        found = calibrate_bounds(job, draft, data, fitted).recalibration
        assert (found is None) == (task == "regression")
        assert found is None or 0.2 < found.slope < 5


def with_blocks(job: Job, most: int, every: int) -> Job:
    signals, policy = job.spec.signals, job.spec.policy
    sections = {"signals": signals.model_copy(update={"blocks": most}), "policy": policy.model_copy(update={"every": every})}
    return replace(job, spec=job.spec.model_copy(update=sections))


def test_a_commit_is_known_inside_a_repository_only(tmp_path: Path) -> None:
    here = git_commit(Path(__file__).parent)
    assert here is None or len(here) == 40
    assert git_commit(tmp_path / "nowhere") is None


def test_a_late_window_is_no_longer_than_the_rows(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    data, *_ = trained(job)
    assert data.until - data.since == timedelta(hours=ROWS - 7 * 24 - 1)
