"""The learning loop, told from its beginning to its end: read it from top to bottom, each chapter goes on where the last ended.

A small shop answers one question, and one day the world turns: what was a yes becomes a no. Everything here is real: the
commands, the store, the Prefect server and its worker, the service, the monitor, the gate. Nobody touches the model.
A finding trains a challenger; what the challenger would have saved makes it champion.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from deployments.stack import supervisord
from monitoring.events import MODEL_PROMOTED, PERFORMANCE_DEGRADED, PROMOTION_DUE, ModelEvent
from monitoring.policy import RetrainRequest
from perennial.log_columns import ID, SCORE, VERSION
from tests.support.models import START, instances, small_frame, write_small
from tests.support.stack import FLOW_TIMEOUT, LOOP_TIMEOUT, Replay, Stage, given_store, perennial, stage
from tests.support.waiting import wait_until

WEEK = timedelta(weeks=1)
DAY = timedelta(days=1)

OPENING = START + 5 * WEEK
"""The first model learns five weeks; from here on the service is asked."""

TURN = OPENING + WEEK
"""One ordinary week later the world turns."""

AFTER = TURN + WEEK + DAY + timedelta(hours=6)
"""The week of the turn is over, and so is the day that late rows are waited for."""

PROVEN = AFTER + WEEK
"""So is the week in which the challenger has shadowed the champion."""


def the_world() -> pl.DataFrame:
    """A row an hour for nine weeks. At the turn amounts grow, and what had been true of a row is not any more."""
    before = small_frame(rows=24 * 7 * 6, seed=1)
    turned = small_frame(rows=24 * 7 * 3, seed=2, start=TURN, shift=2.0)
    return pl.concat([before, turned.with_columns((1 - pl.col("outcome")).alias("outcome"))])


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`perennial up small.toml`, in a home of its own."""
    home = tmp_path_factory.mktemp("loop")
    with stage(write_small(home, frame=the_world()), home / "var", PERENNIAL_STANDBY="true", **given_store()) as up:
        yield up


@pytest.fixture(scope="module")
def life(loop: Stage) -> Replay:
    """The weeks from the opening on, as the service will see them: asked over HTTP, answered for half a day later."""
    return loop.replay(the_world(), OPENING, delay=timedelta(hours=12), step=timedelta(hours=6))


def test_1_the_first_model_is_trained_by_its_deployment_and_serves(loop: Stage) -> None:
    loop.train(until=OPENING)
    card = loop.card(1)
    assert card.cause.kind == "initial"
    assert card.until < OPENING
    assert httpx.get(f"{loop.service.url}/model").json()["version"] == 1
    assert list((loop.stack.home / "wandb").rglob("*.wandb"))  # tracked, though without an account and a network


def test_2_every_prediction_and_every_label_is_kept(loop: Stage, life: Replay) -> None:
    life.until(TURN)
    counts = loop.archived()
    assert counts.predictions == len(life.asked) == 24 * 7
    assert counts.joined == len(life.told) > 0


def test_3_an_ordinary_week_closes_once_later_rows_have_come_and_asks_for_nothing(loop: Stage, life: Replay) -> None:
    life.until(TURN + 2 * DAY)
    result = loop.window(OPENING)
    assert (result.findings.rows, result.version) == (24 * 7, 1)
    assert result.decision.kind == "none", result.decision.reason


def test_4_a_week_in_which_the_model_fails_becomes_an_event(loop: Stage, life: Replay) -> None:
    life.until(AFTER)
    result = loop.window(TURN)
    assert result.decision.kind == "performance", result.decision.reason
    assert result.decision.event_id is not None
    event = loop.event(result.decision.event_id)
    assert event.name == PERFORMANCE_DEGRADED
    request = RetrainRequest.model_validate(event.payload)
    assert (request.model, request.version, request.window_start) == ("small", 1, TURN)
    assert float(request.evidence["loss"]) > float(request.evidence["loss_bound"])
    assert request.report is not None
    wait_until(Path(request.report).exists, 60, "the report, which is made after the event was sent")


def test_5_the_automation_trains_a_challenger_for_that_event_while_the_first_model_goes_on_answering(loop: Stage) -> None:
    event_id = loop.window(TURN).decision.event_id
    assert event_id is not None
    run = loop.run_of(event_id, "retrain")
    assert run.automated
    assert run.state == "COMPLETED", run.message
    assert loop.parameters(run)["event"] == loop.event(event_id).payload
    assert [run.id for run in loop.history.runs("retrain")] == [run.id]
    card = loop.card(2)
    assert (card.parent, card.cause.kind, card.cause.event_id) == (1, "performance", event_id)
    assert card.until > TURN + WEEK, "it knows the week of the turn"
    assert (loop.registry.aliases("small").challenger, loop.champion, ask_again(loop)) == (2, 1, 1)


def test_6_in_the_next_week_the_challenger_would_have_saved_more_than_a_promotion_costs(loop: Stage, life: Replay) -> None:
    life.until(PROVEN)
    result = loop.window(TURN + WEEK)
    assert result.decision.kind == "promotion", result.decision.reason
    account = result.account
    assert account is not None
    assert account.newest is not None
    assert (account.champion, account.newest.version) == (1, 2)
    assert account.newest.champion_loss > account.newest.other_loss
    assert account.avoidable > account.cost
    assert account.avoidable > account.error
    assert result.decision.event_id is not None
    assert loop.event(result.decision.event_id).name == PROMOTION_DUE
    assert "avoidable loss" in perennial("status", PERENNIAL_HOME=str(loop.stack.home))


def test_7_the_automation_promotes_past_the_gate_and_the_service_swaps_under_requests(loop: Stage) -> None:
    event_id = loop.window(TURN + WEEK).decision.event_id
    assert event_id is not None
    versions: list[int] = []
    wait_until(lambda: versions.append(ask_again(loop)) or versions[-1] > 1, LOOP_TIMEOUT + FLOW_TIMEOUT, "a newer answer")
    assert versions == sorted(versions)
    run = loop.run_of(event_id, "promote")
    assert run.automated
    assert run.state == "COMPLETED", run.message
    move = loop.registry.history("small")[-1]
    assert (move.alias, move.version, move.previous) == ("champion", versions[-1], 1)
    assert loop.card(versions[-1]).until > TURN + 2 * WEEK, "it knows every labelled row"
    promoted = wait_until(lambda: promotion(loop, version=versions[-1]), 60, "the promotion told")
    assert promoted.payload["request"] == event_id


def test_8_the_new_model_is_right_where_the_old_one_was_wrong(loop: Stage, life: Replay) -> None:
    new_world = the_world().filter(pl.col("asked_at") >= PROVEN)
    life.until(PROVEN + 3 * DAY)
    loop.archived()
    answers = loop.archive().scan(PROVEN, PROVEN + 3 * DAY).select(ID, VERSION, SCORE).collect()
    rows = answers.join(new_world, left_on=ID, right_on="row_id")
    assert rows.height == 3 * 24
    assert rows[VERSION].unique().to_list() == [loop.champion]
    right = (rows[SCORE] > 0.5) == (rows["outcome"] == 1)
    assert right.sum() > 0.7 * rows.height


def test_9_no_request_has_failed_and_nothing_was_lost(loop: Stage, life: Replay) -> None:
    counts = loop.archived()
    assert loop.client.total.failed == 0, loop.client.total.failures
    assert counts.predictions == len(life.asked) == len(set(life.asked))
    assert counts.joined == len(life.told) == len(set(life.told))
    assert perennial("status", PERENNIAL_HOME=str(loop.stack.home)).count("running") == 5


def test_10_down_leaves_no_process(loop: Stage) -> None:
    environ = {"PERENNIAL_HOME": str(loop.stack.home)}
    perennial("down", **environ)
    assert supervisord.find_supervisor(loop.stack.state_dir) is None
    assert supervisord.program_processes(loop.stack.state_dir, loop.stack.socket) == []
    assert "nothing was running" in perennial("down", **environ)


def promotion(loop: Stage, version: int) -> ModelEvent | None:
    """The event that told of a promotion, once the feed shows it."""
    told = [one for one in loop.history.events() if one.name == MODEL_PROMOTED and one.payload["version"] == version]
    return told[0] if told else None


def ask_again(loop: Stage) -> int:
    """Ask for some hours once more; returns which version answered. A question asked twice is archived once."""
    rows = instances(the_world().filter(pl.col("asked_at").is_between(AFTER - DAY, AFTER, closed="left")))
    reply = httpx.post(f"{loop.service.url}/predict", json={"instances": rows}, timeout=30).raise_for_status().json()
    return int(reply["version"])
