"""The search: within the space, in order of time, the same each time."""

from dataclasses import replace
from pathlib import Path

import pytest

from perennial.learners.declarations import LEARNERS
from perennial.spec import ModelSpec, Task
from tasks.job import Job
from tasks.training.training_data import TrainingData
from tasks.training.tune import as_loss, keep_or_tune, tune
from tests.support.models import TASKS, small_frame, small_model, small_spec
from tests.tasks.making import make_job, make_training

TRIALS = 4


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


@pytest.fixture
def data(job: Job) -> TrainingData:
    return make_training(job, small_frame(rows=400))


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(job: Job, data: TrainingData) -> None:
    first, again = (tune.fn(job, data, TRIALS) for _ in range(2))
    assert first == again
    raw = job.spec.model_dump()
    other = ModelSpec.model_validate({**raw, "search": {**raw["search"], "seed": 1}})
    assert tune.fn(Job(job.path, other, job.settings, job.now), data, TRIALS) != first


def test_every_trial_is_told_and_the_best_is_chosen(job: Job, data: TrainingData) -> None:
    tuned = tune.fn(job, data, TRIALS)
    assert [trial.number for trial in tuned.trials] == list(range(TRIALS))
    assert tuned.loss == min(trial.loss for trial in tuned.trials)
    assert tuned.params in [trial.params for trial in tuned.trials if trial.loss == tuned.loss]
    for trial in tuned.trials:
        assert len(trial.folds) == len(trial.rounds) == job.spec.split.folds
        assert max(trial.rounds) <= job.spec.search.max_rounds
        for name, span in job.spec.search_space.items():
            assert span.low <= trial.params[name] <= span.high
            assert isinstance(trial.params[name], int if span.integer else float)


def test_a_search_can_begin_at_known_parameters(job: Job, data: TrainingData) -> None:
    known = tune.fn(job, data, 1).trials[0].params
    assert tune.fn(job, data, 2, known).trials[0].params == pytest.approx(known)
    foreign = {**known, "num_leaves": 10_000}
    assert len(tune.fn(job, data, 2, foreign).trials) == 2


def test_a_long_table_is_searched_on_its_newest_rows(job: Job, data: TrainingData) -> None:
    search = job.spec.search.model_copy(update={"max_rows": 150})
    few = replace(job, spec=job.spec.model_copy(update={"search": search}))
    found, newest = tune.fn(few, data, 2), replace(data, table=data.table.newest(150))
    assert (found.rows, found.known) == (150, len(data.table))
    assert found.trials == tune.fn(job, newest, 2).trials
    assert newest.table.times[-1] == data.table.times[-1]
    assert found.trials != tune.fn(job, data, 2).trials


def test_a_long_table_is_searched_by_halving_and_the_best_trials_see_all_rows(job: Job, data: TrainingData) -> None:
    search = job.spec.search.model_copy(update={"max_rows": 50_000, "max_rounds": 5})
    many = replace(job, spec=job.spec.model_copy(update={"search": search}))
    long = make_training(many, small_frame(rows=60_000))
    found = tune.fn(many, long, 6)
    assert ([one.rows for one in found.screened], [one.rows for one in found.trials]) == ([10_000] * 6, [50_000] * 2)
    best = sorted(found.screened, key=lambda trial: trial.loss)[:2]
    assert [(one.number, one.params) for one in found.trials] == [(one.number, one.params) for one in best]
    assert found.loss == min(one.loss for one in found.trials)
    assert found.params in [one.params for one in found.trials if one.loss == found.loss]
    short = tune.fn(many, replace(long, table=long.table.newest(50_000)), 6)
    assert (short.screened, len(short.trials), {one.rows for one in short.trials}) == ((), 6, {50_000})


def test_a_space_that_changes_the_bins_is_searched_too(job: Job, data: TrainingData) -> None:
    raw = job.spec.model_dump()
    space = {"max_bin": {"low": 15, "high": 255, "integer": True}}
    spec = ModelSpec.model_validate({**raw, "search": {**raw["search"], "space": space}})
    tuned = tune.fn(Job(job.path, spec, job.settings, job.now), data, 3)
    assert len({trial.params["max_bin"] for trial in tuned.trials}) == 3


def test_a_champion_of_another_learner_leaves_no_parameters_to_keep(
    job: Job, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training.tune.tune", tune.fn)  # without Prefect
    assert keep_or_tune(job, data, small_model()).params == small_model().card.params
    found = keep_or_tune(job, data, small_model(learner="linear"))
    assert len(found.trials) == job.spec.search.trials
    assert "num_leaves" in found.params


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_searched(tmp_path: Path, task: Task, learner: str) -> None:
    job = replace(make_job(tmp_path, task), spec=small_spec(task, learner))
    tuned = tune.fn(job, make_training(job, small_frame(task, rows=400)), 2)
    assert all(loss > 0 for trial in tuned.trials for loss in trial.folds)


def test_a_metric_to_make_large_is_turned() -> None:
    assert as_loss("auc", 0.75) == -0.75
    assert as_loss("rmse", 0.75) == 0.75
