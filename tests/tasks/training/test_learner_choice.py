"""The choice of a learner: all are compared on the same folds within the budget, and a retraining keeps what was chosen."""

from pathlib import Path
from typing import Any

import pytest

from perennial.errors import SpecError, TrainingError
from perennial.learner import load_learner
from perennial.learners.declarations import LEARNERS
from perennial.spec import parse_spec
from tasks.job import Job
from tasks.reporting.artifacts import _learners
from tasks.training.learner_choice import choose_learner, compare_learners, keep_learner, with_learner
from tasks.training.training_data import TrainingData
from tasks.training.tune import Trial, Tuned, tune
from tests.support.models import small_frame, small_model, small_spec
from tests.tasks.making import make_job, make_training, respecified

TRIALS = 8


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return with_learner(respecified(make_job(tmp_path), search={"trials": TRIALS}), "auto")


@pytest.fixture
def data(job: Job) -> TrainingData:
    return make_training(job, small_frame(rows=400))


class Searches:
    """Stands in for the search: the losses of each learner's trials, in turn; what was asked is kept."""

    def __init__(self, **losses: list[float]) -> None:
        self.losses, self.asked = losses, []

    def __call__(self, job: Job, data: TrainingData, trials: int, start: Any = None) -> Tuned:
        self.asked.append((job.spec.learner, trials, start, job.spec.search.seed))
        losses = [self.losses[job.spec.learner].pop(0) for _ in range(trials)]
        common = {"rows": 400, "rounds": (3,)}
        made = [Trial(number=i, params={"x": loss}, loss=loss, folds=(loss,), **common) for i, loss in enumerate(losses)]
        best = min(made, key=lambda trial: trial.loss)
        return Tuned(params=best.params, rows=400, known=400, loss=best.loss, trials=tuple(made))


def test_the_best_learner_is_searched_on_with_what_is_left_of_the_budget(job: Job, data: TrainingData) -> None:
    search = Searches(lightgbm=[0.5], hist_boosting=[0.4, 0.41, 0.42, 0.38, 0.43, 0.44], linear=[0.6])
    chosen, tuned = compare_learners(job, data, search)
    first = [(name, 1, None, 0) for name in LEARNERS]
    assert search.asked == [*first, ("hist_boosting", TRIALS - len(LEARNERS), {"x": 0.4}, 1)]
    assert chosen.spec.learner == "hist_boosting"
    assert (tuned.params, tuned.loss, len(tuned.trials)) == ({"x": 0.38}, 0.38, 6)
    assert [trial.number for trial in tuned.trials] == list(range(6))
    assert tuned.learner_scores == {"hist_boosting": 0.38, "lightgbm": 0.5, "linear": 0.6}
    assert list(tuned.learner_scores) == ["hist_boosting", "lightgbm", "linear"], "the best first"
    assert sum(len(one.trials) for one in tuned.compared) == TRIALS


def test_a_metric_that_is_better_higher_is_shown_as_it_is(job: Job, data: TrainingData) -> None:
    raw = job.spec.model_dump() | {"metric": "auc"}
    of_auc = Job(job.path, parse_spec(raw, "the test"), job.settings, job.now)
    search = Searches(lightgbm=[-0.8] * 6, hist_boosting=[-0.7], linear=[-0.6])
    chosen, tuned = compare_learners(of_auc, data, search)
    assert (chosen.spec.learner, tuned.learner_scores["lightgbm"]) == ("lightgbm", 0.8)
    assert str(tuned.compared[0]) == "lightgbm: auc 0.8 in 6 trials"


def test_real_learners_are_compared_on_the_same_folds(job: Job, data: TrainingData) -> None:
    chosen, tuned = compare_learners(job, data, tune.fn)
    assert {one.learner for one in tuned.compared} == set(LEARNERS)
    assert {len(trial.folds) for one in tuned.compared for trial in one.trials} == {job.spec.split.folds}
    assert tuned.compared[0].learner == chosen.spec.learner
    assert tuned.params.keys() == chosen.spec.search_space.keys()
    points = [tuple(sorted(trial.params.items())) for trial in tuned.trials]
    assert len(set(points)) >= len(points) - 1, "only the point that the search goes on from is tried twice"
    again, same = compare_learners(job, data, tune.fn)
    assert (again.spec, same) == (chosen.spec, tuned)


def test_a_learner_that_cannot_learn_the_rows_is_left_out_with_its_reason(
    job: Job, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise TrainingError("too wide")

    monkeypatch.setattr(load_learner("linear"), "trainer", fail, raising=False)
    _, tuned = compare_learners(job, data, tune.fn)
    assert str(tuned.compared[-1]) == "linear: too wide"
    assert "linear" not in tuned.learner_scores
    assert "too wide" in "".join(_learners("lightgbm", tuned))
    for name in LEARNERS:
        monkeypatch.setattr(load_learner(name), "trainer", fail, raising=False)
    with pytest.raises(TrainingError, match="no learner can learn these rows: lightgbm: too wide; hist_boosting: too wide"):
        compare_learners(job, data, tune.fn)


def test_a_retraining_keeps_the_champions_learner_unless_the_spec_names_another(job: Job) -> None:
    champion = small_model(learner="hist_boosting")
    assert keep_learner(job, champion).spec.learner == "hist_boosting"
    assert keep_learner(with_learner(job, "linear"), champion).spec.learner == "linear"


def test_a_named_learner_is_searched_alone(job: Job, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searches(linear=[0.5] * TRIALS)
    monkeypatch.setattr("tasks.training.learner_choice.tune", search)
    named = with_learner(job, "linear")
    chosen, tuned = choose_learner(named, data)
    assert (chosen, tuned.compared, search.asked) == (named, (), [("linear", TRIALS, None, 0)])


@pytest.mark.parametrize("search", [{"params": {"num_leaves": 7}}, {"space": {"alpha": {"low": 1, "high": 2}}}])
def test_parameters_of_one_learner_do_not_go_with_a_comparison(search: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"num_leaves|alpha.*stands beside learner = .auto.: leave it out, or name the learner"):
        parse_spec(small_spec().model_dump() | {"learner": "auto", "search": search}, "the test")
