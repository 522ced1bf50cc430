"""The story of a training, for each task, told by the registry and the Prefect API alone."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import perennial
from flows.train import train
from monitoring.report import write_report
from monitoring.window import window_at
from perennial.errors import ChecksFailed, SpecError
from perennial.learners.declarations import LEARNERS
from perennial.model_loading import load_model
from perennial.registry import Registry
from perennial.settings import load_settings
from perennial.spec import Task
from tests.flows.asking import artifacts, logged, runs, task_runs, told
from tests.monitoring.results import result_of
from tests.service.serving import serving
from tests.support.models import START, TASKS, instances, small_frame, write_small
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until
from tests.tasks.making import later_frame


def registry(home: Path) -> Registry:
    return Registry(load_settings({"PERENNIAL_HOME": str(home / "var")}).registry_url)


@pytest.mark.parametrize("task", TASKS)
def test_the_first_training_serves_at_once(home: Path, task: Task) -> None:
    spec = write_small(home, task)
    assert train(str(spec)) == 1
    aliases = registry(home).aliases("small")
    assert (aliases.champion, aliases.challenger) == (1, 1)
    model = load_model(registry(home), "small", 1, home)
    assert model.card.cause.kind == "initial"
    assert model.card.data.rows == small_frame(task).height, "what is published has learnt every row"
    assert (model.card.metrics.rows, model.card.rounds_chosen) == (7 * 24, (model.card.rounds,))
    assert "drift" in model.card.bounds
    assert (model.card.recalibration is None) == (task == "regression")


def test_a_linear_model_is_trained_served_explained_and_reported_on(home: Path, store_url: str) -> None:
    assert train(str(write_small(home, learner="linear"))) == 1
    model, frame = load_model(registry(home), "small", 1, home), small_frame(rows=50, seed=3)
    assert list(model.card.params) == ["alpha"]
    assert "loss" in model.card.bounds
    with serving(home / "var", store_url, learner="linear") as service:
        predicted = service.predict(instances(frame)).json()["predictions"]
        explained = service.client.post("/explain", json={"instances": instances(frame)}).json()["explanations"]
        loaded = {path for process in service.processes() for path in (region.path for region in process.memory_maps())}
    assert [one["score"] for one in predicted] == model.predict_frame(frame).tolist()
    raw = [one["base"] + sum(one["contributions"].values()) for one in explained]
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(raw))), [one["score"] for one in explained])
    assert not [path for path in loaded if "/sklearn/" in path or "/scipy/" in path or "/lightgbm/" in path]
    window = window_at(START, timedelta(days=7))
    table = model.compiled.table(frame)
    assert "prediction" in write_report(home, model, result_of(model, window, table), table)


def test_of_all_learners_the_best_is_trained_and_the_comparison_is_shown(home: Path, prefect_api: str) -> None:
    train(str(write_small(home, learner="auto")))
    card = load_model(registry(home), "small", 1, home).card
    assert set(card.learner_scores) == set(LEARNERS)
    assert min(card.learner_scores, key=lambda name: card.learner_scores[name]) == card.learner
    shown = artifacts(prefect_api, runs(prefect_api, "train")[0]["id"])
    assert f"`{card.learner}` was chosen" in shown["small-evaluation"]["data"]
    assert all(name in shown["small-trials"]["data"] for name in LEARNERS)


def test_a_frame_is_trained_on_from_python_by_the_same_flow(home: Path, prefect_api: str) -> None:
    opened = perennial.open(write_small(home, frame=small_frame(rows=60)), home=home / "var", environ={})
    done = opened.train(small_frame())
    assert (done.version.version, done.version.card.data.rows) == (1, small_frame().height), "the frame, not the spec's file"
    assert done.verdict is not None
    assert done.verdict.decision == "promote"
    assert done.metrics == opened.champion.metrics
    assert done.report.checks.rows == small_frame().height
    assert "version 1, promoted" in repr(done)
    assert runs(prefect_api, "train")[0]["state"]["type"] == "COMPLETED"
    with pytest.raises(ChecksFailed, match="outcome: is always 1"):
        opened.train(small_frame().with_columns(outcome=pl.lit(1)))
    with pytest.raises(SpecError, match=r"needs the spec of small: open it by the path"):
        perennial.open("small", home=home / "var", environ={}).train(small_frame())


def test_the_prefect_ui_tells_the_story(home: Path, prefect_api: str) -> None:
    train(str(write_small(home)), "2024-02-05")
    run = runs(prefect_api, "train")[0]
    assert run["name"] == "small until 2024-02-05"
    assert run["state"]["type"] == "COMPLETED"
    shown = artifacts(prefect_api, run["id"])
    assert set(shown) == {"small-checks", "small-evaluation", "small-gate", "small-trials"}
    assert "PROMOTE: small version 1" in shown["small-gate"]["data"]
    assert told(prefect_api, "perennial.model.promoted", run["id"])["payload"]["decision"] == "promote"


def test_a_monitor_that_would_be_silent_is_announced_loudly(home: Path, prefect_api: str) -> None:
    train(str(write_small(home)), "2024-01-21")
    run = runs(prefect_api, "train")[0]
    warning = "on drift, loss, auc: no bound. A bound takes 3 measured blocks, and the training rows fill 1:"
    assert warning in artifacts(prefect_api, run["id"])["small-evaluation"]["data"]
    wait_until(lambda: [line for line in logged(prefect_api, run["id"]) if warning in line], 30, "the warning in the run's log")


def test_a_later_training_goes_through_the_gate(home: Path) -> None:
    spec = write_small(home)
    train(str(spec), "2024-02-05")
    assert train(str(spec), "2024-02-05") == 2
    assert registry(home).aliases("small").champion == 2, "the same rows again prove nothing against it"
    move = registry(home).last_move("small", "champion")
    assert move is not None
    assert move.reason.startswith("warning: nothing was compared")
    turned = small_frame().with_columns(outcome=1 - pl.col("outcome"))
    learnt = pl.concat([turned.filter(pl.col("asked_at") <= datetime(2024, 2, 5, tzinfo=UTC)), later_frame("binary", 100)])
    learnt.write_parquet(home / "rows.parquet")
    assert train(str(spec)) == 3
    assert registry(home).aliases("small").champion == 2, "its recipe is proven to be worse on the newest week"
    assert registry(home).aliases("small").positions["rejected"] == 3


def test_a_search_that_is_done_is_not_done_again(home: Path, prefect_api: str) -> None:
    spec = write_small(home, frame=small_frame(seed=11))
    first, second = train(str(spec)), train(str(spec))
    models = [load_model(registry(home), "small", version, home) for version in (first, second)]
    assert models[0].card.params == models[1].card.params
    states = [run["state"]["name"] for run in task_runs(prefect_api, runs(prefect_api, "train")[0]["id"], "tune")]
    assert states == ["Cached"]


def test_bad_data_fails_the_task_with_its_message_and_reaches_triage(
    home: Path, prefect_api: str, sentry: SentryReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTRY_DSN", sentry.dsn)
    spec = write_small(home, frame=small_frame().with_columns(outcome=pl.lit(1)))
    with pytest.raises(ChecksFailed):
        train(str(spec))
    run = runs(prefect_api, "train")[0]
    assert run["state"]["type"] == "FAILED"
    assert "outcome: is always 1: there is nothing to learn" in run["state"]["message"]
    failed = task_runs(prefect_api, run["id"], "validate")[0]
    assert "outcome: is always 1" in failed["state"]["message"]
    event = sentry.wait_for(1)[0]
    assert event["fingerprint"][:2] == ["flow", "train"]
    assert event["tags"]["flow_run"] == run["id"]
    assert event["tags"]["model"] == "small"
    assert registry(home).versions("small") == ()


def test_a_wrong_spec_fails_the_run_with_the_nearest_key(home: Path, prefect_api: str) -> None:
    spec = write_small(home)
    spec.write_text(spec.read_text().replace("target =", "targt ="))
    with pytest.raises(SpecError, match="did you mean 'target'"):
        train(str(spec))
    assert "did you mean 'target'" in runs(prefect_api, "train")[0]["state"]["message"]
