"""W&B is told of a training, offline, and whatever it fails at, the training stands."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from monitoring.calibration import Calibration
from perennial.model_card import Cause
from perennial.model_loading import load_model
from perennial.spec import Task
from tasks.data.ingest import ingest
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.promotion.publish import publish
from tasks.reporting.track import curves, track, track_verdict
from tasks.training.assemble import assemble
from tasks.training.evaluate import Evaluation, calibration_table, evaluate
from tasks.training.fit import fit
from tasks.training.learner_choice import compare_learners
from tasks.training.tune import tune
from tests.support.lived import live
from tests.support.models import TASKS, small_frame, small_spec
from tests.support.waiting import wait_until
from tests.tasks.making import NOW, make_job, make_training

BROKEN_ADDRESS = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""

PROMOTE = Verdict(decision="promote", reason="the first model", metric="log_loss")


def trained(job: Job) -> Challenger:
    data = make_training(job, small_frame(job.spec.task))
    job, tuned = compare_learners(job, data, tune.fn) if job.spec.learner == "auto" else (job, tune.fn(job, data, 2))
    fitted = fit.fn(job, data, tuned.params)
    evaluation = evaluate.fn(job, fitted, small_frame(job.spec.task, 200, seed=3))
    draft = assemble.fn(job, data, fitted, evaluation, Cause(kind="initial"), None)
    model = publish.fn(job, draft, {})
    return Challenger(
        model, fitted, data, ingest.fn(job, None), data, tuned, fitted, evaluation, Calibration(bounds={}, blocks=0)
    )


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody has said where W&B keeps its files."""
    for variable in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(variable, str(tmp_path / "var" / "wandb" / variable.lower()))
    return tmp_path / "var" / "wandb"


@pytest.mark.parametrize(("task", "learner"), [*((task, "lightgbm") for task in TASKS), ("binary", "linear"), ("binary", "auto")])
def test_a_training_is_kept_offline_below_the_home(tmp_path: Path, wandb_home: Path, task: Task, learner: str) -> None:
    job = replace(make_job(tmp_path, task), spec=small_spec(task, learner))
    one = trained(job)
    assert track.fn(job, one, PROMOTE)
    runs = list(wandb_home.rglob(f"run-{one.model.card.wandb_run}.wandb"))
    assert len(runs) == 1
    # W&B's own process writes the end of the file after it has said that the run is finished.
    wait_until(lambda: one.dataset.manifest.fingerprint.encode() in runs[0].read_bytes(), 30, "W&B to write the run to its file")
    staged = {path.name for path in wandb_home.rglob("*") if path.is_file()}
    assert any("trials" in name for name in staged)
    assert any("learners" in name for name in staged) == (learner == "auto")


def test_a_failing_tracker_is_a_warning(
    tmp_path: Path, wandb_home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    blocked = tmp_path / "a-file"
    blocked.write_text("where a directory should be")
    monkeypatch.setenv("WANDB_DIR", str(blocked))
    with caplog.at_level(logging.WARNING):
        assert not track.fn(job, trained(job), PROMOTE)
    assert "W&B did not take the initial run small v1" in caplog.text


def test_an_unreachable_server_costs_no_more_than_its_timeout(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", BROKEN_ADDRESS)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    settings = job.settings.model_validate({**job.settings.model_dump(), "wandb_api_key": "0" * 40, "wandb_init_timeout": 1.0})
    assert not track.fn(replace(job, settings=settings), trained(job), PROMOTE)


@pytest.mark.parametrize("verdict", [None, PROMOTE])
def test_a_verdict_on_an_earlier_version_is_a_run_of_its_own(tmp_path: Path, wandb_home: Path, verdict: Verdict | None) -> None:
    job = replace(make_job(tmp_path), now=NOW + timedelta(days=2 if verdict else 1))  # W&B takes a run's id once a process
    one = trained(job)
    assert track.fn(job, one, verdict), "a challenger has no verdict yet"
    assert track_verdict.fn(job, one.model, PROMOTE)
    assert len(list(wandb_home.rglob(f"run-{one.model.card.wandb_run}-gate-*.wandb"))) == 1


def test_a_run_says_what_promotions_promised_and_what_came_true(tmp_path: Path, wandb_home: Path) -> None:
    job = replace(make_job(tmp_path), now=NOW + timedelta(days=3))
    live(job.settings.home)
    model = load_model(job.registry, "small", 3, tmp_path)
    model = replace(model, card=model.card.model_copy(update={"wandb_run": "small-lived"}))
    assert track_verdict.fn(job, model, PROMOTE)
    (run,) = wandb_home.rglob("run-small-lived-gate-*.wandb")
    wait_until(lambda: b"truth/turned_out" in run.read_bytes(), 30, "W&B to write the run to its file")


def evaluation(labels: np.ndarray, predictions: np.ndarray) -> Evaluation:
    from perennial.metrics import score

    return Evaluation(score("binary", labels, predictions), calibration_table(labels, predictions), (), labels, predictions)


def test_the_roc_of_a_perfect_ranking_passes_the_corner() -> None:
    labels = np.repeat([0.0, 1.0], 50)
    roc, precision, calibration = curves("binary", evaluation(labels, np.linspace(0, 1, 100)))
    assert [roc.title, precision.title, calibration.title] == ["ROC", "Precision-recall", "Calibration"]
    assert max(y for x, y in roc.points if x == 0) >= 0.95
    assert all(y == 1 for x, y in precision.points if x < 1)


def test_one_class_alone_has_no_ranking_curves() -> None:
    assert [curve.title for curve in curves("binary", evaluation(np.ones(20), np.linspace(0, 1, 20)))] == ["Calibration"]


def test_the_card_names_the_run(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    card = trained(job).model.card
    assert card.wandb_run == f"small-20260101T000000-{card.data.fingerprint[:8]}"
    assert json.loads(job.registry.read("small", 1)["model.json"])["wandb_run"] == card.wandb_run
