"""The learning loop, told from its beginning to its end: read it from top to bottom, each chapter goes on where the last ended.

A small shop answers one question, and one day the world turns: what was a yes becomes a no. Everything here is real: the
commands, the store, the Prefect server and its worker, the service, the monitor, the gate. Nobody touches the model.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from deployments.stack import supervisord
from monitoring.events import MODEL_PROMOTED, PERFORMANCE_DEGRADED, ModelEvent
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


def the_world() -> pl.DataFrame:
    """a row an hour for eight weeks. At the turn amounts grow, and what had been true of a row is not any more."""
    before = small_frame(rows=24 * 7 * 6, seed=1)
    turned = small_frame(rows=24 * 7 * 2, seed=2, start=TURN, shift=2.0)
    return pl.concat([before, turned.with_columns((1 - pl.col("outcome")).alias("outcome"))])


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`perennial up small.toml`, in a home of its own."""
    home = tmp_path_factory.mktemp("loop")
    with stage(write_small(home, frame=the_world()), home / "var", **given_store()) as up:
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
    assert Path(request.report).exists()


def test_5_the_automation_retrains_for_that_event_while_the_service_goes_on_answering(loop: Stage) -> None:
    event_id = loop.window(TURN).decision.event_id
    assert event_id is not None
    versions: list[int] = []
    wait_until(lambda: ask_again(loop, versions) == 2, LOOP_TIMEOUT + FLOW_TIMEOUT, "an answer of version 2")
    assert versions == sorted(versions)
    assert set(versions) == {1, 2}
    run = loop.retraining(event_id)
    assert run.automated
    assert run.state == "COMPLETED", run.message
    assert loop.parameters(run)["event"] == loop.event(event_id).payload
    assert [run.id for run in loop.history.runs("retrain")] == [run.id]


def test_6_the_gate_has_found_the_challenger_better(loop: Stage) -> None:
    event_id = loop.window(TURN).decision.event_id
    card, move = loop.card(2), loop.registry.history("small")[-1]
    assert (card.parent, card.cause.kind, card.cause.event_id) == (1, "performance", event_id)
    assert (move.alias, move.version, move.previous) == ("champion", 2, 1)
    assert "against the champion's" in move.reason
    promoted = wait_until(lambda: promotion(loop, version=2), 60, "the promotion told")
    assert promoted.payload["request"] == event_id


def test_7_the_new_model_is_right_where_the_old_one_was_wrong(loop: Stage, life: Replay) -> None:
    new_world = the_world().filter(pl.col("asked_at") >= AFTER)
    life.until(AFTER + 3 * DAY)
    loop.archived()
    answers = loop.archive().scan(AFTER, AFTER + 3 * DAY).select(ID, VERSION, SCORE).collect()
    rows = answers.join(new_world, left_on=ID, right_on="row_id")
    assert rows.height == 3 * 24
    assert rows[VERSION].unique().to_list() == [2]
    right = (rows[SCORE] > 0.5) == (rows["outcome"] == 1)
    assert right.sum() > 0.7 * rows.height


def test_8_no_request_has_failed_and_nothing_was_lost(loop: Stage, life: Replay) -> None:
    counts = loop.archived()
    assert loop.client.total.failed == 0, loop.client.total.failures
    assert counts.predictions == len(life.asked) == len(set(life.asked))
    assert counts.joined == len(life.told) == len(set(life.told))
    assert perennial("status", PERENNIAL_HOME=str(loop.stack.home)).count("running") == 5


def test_9_down_leaves_no_process(loop: Stage) -> None:
    environ = {"PERENNIAL_HOME": str(loop.stack.home)}
    perennial("down", **environ)
    assert supervisord.find_supervisor(loop.stack.state_dir) is None
    assert supervisord.program_processes(loop.stack.state_dir, loop.stack.socket) == []
    assert "nothing was running" in perennial("down", **environ)


def promotion(loop: Stage, version: int) -> ModelEvent | None:
    """The event that told of a promotion, once the feed shows it."""
    told = [one for one in loop.history.events() if one.name == MODEL_PROMOTED and one.payload["version"] == version]
    return told[0] if told else None


def ask_again(loop: Stage, versions: list[int]) -> int:
    """Ask for the newest hours once more, and remember which version answered; a question asked twice is archived once."""
    rows = instances(the_world().filter(pl.col("asked_at").is_between(AFTER - DAY, AFTER, closed="left")))
    reply = httpx.post(f"{loop.service.url}/predict", json={"instances": rows}, timeout=30).raise_for_status().json()
    versions.append(reply["version"])
    return versions[-1]
