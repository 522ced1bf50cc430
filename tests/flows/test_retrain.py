"""The story of a retraining: asked for once, taught every row, judged by a recipe that has not seen the newest, told to all."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flows.retrain import retrain
from flows.train import train
from monitoring.ledger import read_entry
from perennial.errors import SpecError, TrainingError
from perennial.model import Model
from perennial.model_loading import load_model
from perennial.spec import Task
from tasks.job import Job, load_job
from tasks.reporting.training_report import read_training_report
from tests.flows.asking import artifacts, runs, told
from tests.support.models import TASKS, small_frame, write_small
from tests.tasks.making import later_frame, log_rows
from tests.tasks.promotion.test_retrain_request import EVENT_ID, event


def serving(home: Path, task: Task = "binary") -> tuple[Job, Model]:
    """A trained champion, and the job to look at it with."""
    spec = write_small(home, task)
    train(str(spec))
    job = load_job(spec, dict(os.environ), datetime.now(UTC))
    return job, load_model(job.registry, "small", 1, home)


def outcome(home: Path, run_id: str) -> str | None:
    """What the receipt of the event says, written by this run."""
    entry = read_entry(home / "var" / "small", EVENT_ID)
    assert entry is not None
    assert entry.flow_run == run_id
    return entry.outcome


def mend(job: Job, old: str, new: str) -> None:
    """Change the spec's file."""
    text = job.path.read_text()
    assert old in text
    job.path.write_text(text.replace(old, new))


def set_values(job: Job, section: str, **values: Any) -> None:
    """Set values in a section of the spec's file."""
    text, told = job.path.read_text(), [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    if (head := f"{section} = {{ ") in text:
        job.path.write_text(text.replace(head, f"{head}{', '.join(told)}, "))
    else:
        job.path.write_text("".join(f"{section}.{one}\n" for one in told) + text)


@pytest.mark.parametrize("task", TASKS)
def test_a_retraining_learns_every_row_and_publishes_a_challenger(home: Path, prefect_api: str, task: Task) -> None:
    job, champion = serving(home, task)
    turned = later_frame(task, 600, flipped=True)
    log_rows(job, champion, turned)
    assert retrain(str(job.path), event()) == 2
    aliases = job.registry.aliases("small")
    assert (aliases.champion, aliases.challenger) == (1, 2)
    card = load_model(job.registry, "small", 2, home).card
    assert (card.parent, card.cause.kind, card.cause.event_id) == (1, "drift", EVENT_ID)
    assert card.params == champion.card.params, "retrain_trials = 0 keeps them"
    assert card.data.rows == 1_000 + 600
    assert card.until == turned["asked_at"].max()
    assert card.metrics.rows == 2 * 24
    assert card.judged_since == turned["asked_at"].tail(2 * 24).min()
    assert card.rounds_chosen[:-1] == champion.card.rounds_chosen
    assert card.rounds == int(np.median(card.rounds_chosen))
    run = runs(prefect_api, "retrain")[0]
    assert run["name"] == "small after drift of version 1"
    assert set(artifacts(prefect_api, run["id"])) == {"small-evaluation"}, "nothing is decided yet"
    assert told(prefect_api, "perennial.retrain.started", run["id"])["follows"] == EVENT_ID
    assert outcome(home, run["id"]) == "challenger"


def test_a_retraining_from_the_sources_knows_nothing_from_after_its_event(home: Path) -> None:
    job, champion = serving(home)
    set_values(job, "retrain", rows="sources")
    moment = champion.card.until + timedelta(hours=300)
    future, late = pl.col("asked_at") >= moment, pl.col("asked_at") > moment - timedelta(days=1)
    wrong = [
        pl.when(future).then(1e6).otherwise("amount").alias("amount"),
        pl.when(late).then(9).otherwise("outcome").alias("outcome"),
    ]
    pl.concat([small_frame(), later_frame("binary", 600)]).with_columns(wrong).write_parquet(home / "rows.parquet")
    request = event(window_end=(moment - timedelta(days=1)).isoformat())
    assert retrain(str(job.path), request) == 2
    card = load_model(job.registry, "small", 2, home).card
    assert (card.until, card.data.rows) == (moment - timedelta(days=1), 1_000 + 300 - 24)


def test_with_the_policy_always_the_challenger_is_promoted_at_once(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    set_values(job, "policy", promote="always")
    log_rows(job, champion, later_frame("binary", 600, flipped=True))
    assert retrain(str(job.path), event()) == 2
    assert job.registry.aliases("small").champion == 2
    run = runs(prefect_api, "retrain")[0]
    assert "PROMOTE: small version 2" in artifacts(prefect_api, run["id"])["small-gate"]["data"]
    promoted = told(prefect_api, "perennial.model.promoted", run["id"])["payload"]
    assert (promoted["champion_version"], promoted["rows"], promoted["judge"]) == (1, 48, "its recipe without these rows")
    assert outcome(home, run["id"]) == "promoted"
    assert read_training_report(job.home, 2).verdict is not None


def test_a_settled_event_is_declined_whoever_sends_it_again(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    log_rows(job, champion, later_frame("binary", 600, flipped=True))
    retrain(str(job.path), event())
    first = runs(prefect_api, "retrain")[0]
    retrain(str(job.path), event())
    assert outcome(home, first["id"]) == "challenger", "the first outcome stands"
    run = runs(prefect_api, "retrain")[0]
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Declined")
    assert run["state"]["message"] == "version 2 was trained for this event already"
    assert job.registry.versions("small") == (1, 2)
    assert told(prefect_api, "perennial.retrain.declined", run["id"])["payload"]["reason"] == run["state"]["message"]


def test_a_request_about_an_older_version_is_declined_and_settled_by_that(home: Path, prefect_api: str) -> None:
    job, _ = serving(home)
    retrain(str(job.path), event(version=7))
    run = runs(prefect_api, "retrain")[0]
    assert run["state"]["message"] == "the event is about version 7, and version 1 serves by now"
    assert outcome(home, run["id"]) == "declined"


def test_a_version_of_two_trailing_windows_is_still_watched(home: Path, prefect_api: str) -> None:
    """Fault F17."""
    job, champion = serving(home)
    job.path.write_text('retrain = { data = "trailing", windows = 2 }\n' + job.path.read_text())
    log_rows(job, champion, later_frame("binary", 600, flipped=True))
    assert retrain(str(job.path)) == 2
    card = load_model(job.registry, "small", 2, home).card
    assert card.data.rows <= 2 * 168
    assert card.bounds == champion.card.bounds != {}
    page = artifacts(prefect_api, runs(prefect_api, "retrain")[0]["id"])["small-evaluation"]["data"]
    assert "the bounds of drift, loss, auc are still those of version 1" in page


def test_a_changed_input_contract_is_declined_with_what_changed_and_the_command(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    log_rows(job, champion, later_frame("binary", 300))
    mend(job, 'shop = "categorical" }', 'shop = "categorical", hour = { date_part = "hour" } }')
    retrain(str(job.path), event())
    run = runs(prefect_api, "retrain")[0]
    assert run["state"]["name"] == "Declined"
    assert f"(feature 'hour' added): run `perennial train {job.path}`" in run["state"]["message"]
    assert (job.registry.versions("small"), outcome(home, run["id"])) == ((1,), "declined")
    with pytest.raises(TrainingError, match="feature 'hour' added"):
        retrain(str(job.path))
    train(str(job.path))
    assert retrain(str(job.path)) == 3
    mend(job, 'task = "binary"', 'task = "regression"')
    with pytest.raises(SpecError, match="a model of another task needs a name of its own"):
        train(str(job.path))
    assert job.registry.versions("small") == (1, 2, 3)


def test_a_retraining_that_fails_publishes_nothing(home: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise TrainingError("no bounds today")

    job, champion = serving(home)
    log_rows(job, champion, later_frame("binary", 100))
    monkeypatch.setattr("tasks.promotion.challenger.calibrate", fail)
    with pytest.raises(TrainingError, match="no bounds today"):
        retrain(str(job.path), event())
    assert job.registry.versions("small") == (1,)
    assert job.registry.aliases("small").challenger == 1
    assert outcome(home, runs(prefect_api, "retrain")[0]["id"]) == "failed"


def test_by_hand_and_with_a_search(home: Path) -> None:
    job, champion = serving(home)
    mend(job, "trials = 2,", "trials = 2, retrain_trials = 2,")
    log_rows(job, champion, later_frame("binary", 300, flipped=True))
    assert retrain(str(job.path)) == 2
    assert load_model(job.registry, "small", 2, home).card.cause.kind == "manual"
    assert not (job.home / "requests").exists(), "nobody waits for a receipt"


@pytest.mark.parametrize("data", ["trailing", "weighted"])
def test_the_spec_says_which_rows_are_learnt(home: Path, data: str) -> None:
    job, champion = serving(home)
    mend(job, "signals.blocks = 3", f'signals.blocks = 3\nretrain = {{ data = "{data}", windows = 2, half_life = "7d" }}')
    log_rows(job, champion, later_frame("binary", 300))
    retrain(str(job.path))
    rows = load_model(job.registry, "small", 2, home).card.data.rows
    assert rows == (14 * 24 if data == "trailing" else 1_300)


def test_without_a_champion_the_failure_is_told(home: Path, prefect_api: str) -> None:
    with pytest.raises(TrainingError, match="run the `train` flow first"):
        retrain(str(write_small(home)), event())
    run = runs(prefect_api, "retrain")[0]
    assert run["state"]["type"] == "FAILED"
    failed = told(prefect_api, "perennial.retrain.failed", run["id"])
    assert "run the `train` flow first" in failed["payload"]["error"]
    assert failed["follows"] == EVENT_ID
    assert outcome(home, run["id"]) == "failed"


def test_a_payload_that_is_no_request_fails_the_run(home: Path, prefect_api: str) -> None:
    job, _ = serving(home)
    with pytest.raises(TrainingError, match="parameter `event` is not a request to retrain"):
        retrain(str(job.path), {"cause": "drift"})
    assert runs(prefect_api, "retrain")[0]["state"]["type"] == "FAILED"
    assert job.registry.versions("small") == (1,)


def test_a_mode_that_is_left_open_is_compared_and_kept_on_the_card(home: Path) -> None:
    job, champion = serving(home)
    set_values(job, "retrain", data="auto", windows=2)
    chosen = []
    for since in (0, 200, 400):
        log_rows(job, champion, later_frame("binary", 600, flipped=True).slice(since, 200))
        card = load_model(job.registry, "small", int(str(retrain(str(job.path)))), home).card
        assert set(card.mode_losses) == {"all", "trailing", "weighted"}
        chosen.append((card.spec.retrain.data, card.data.rows))
    assert [mode for mode, _ in chosen] == ["all", "trailing", "trailing"], "the world turned: the old rows mislead"
    assert [rows for _, rows in chosen] == [1_200, 2 * 168, 2 * 168]
