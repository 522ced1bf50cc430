"""What is away or broken for a while: the disk, the champion's files, the Prefect server. The service goes on answering."""

import sys

import httpx
import polars as pl
import psutil
import pytest

from deployments.prefect_client import FlowRun
from deployments.replay.waits import backlog
from deployments.stack import supervisord
from monitoring.events import RETRAIN_FAILED
from monitoring.trouble import read_trouble
from tests.faults.conftest import DAY, LATE, OPENING, WEEK, assert_nothing_lost, world
from tests.faults.victims import process_of
from tests.support.models import instances
from tests.support.stack import FLOW_TIMEOUT, LOOP_TIMEOUT, Replay, Stage
from tests.support.waiting import wait_until

TURN = OPENING + 2 * WEEK


def the_world() -> pl.DataFrame:
    """Two ordinary weeks, then one that asks for a retraining."""
    return world(ordinary=2, turned=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can take room from another process")
def test_a_full_disk_is_named_and_costs_nothing_once_there_is_room(loop: Stage, life: Replay) -> None:
    life.until(OPENING + DAY)
    monitor = psutil.Process(wait_until(lambda: process_of(loop, "monitor"), LOOP_TIMEOUT, "the monitor to be at work"))
    loop.archived()
    room = monitor.rlimit(psutil.RLIMIT_FSIZE)
    monitor.rlimit(psutil.RLIMIT_FSIZE, (1024, room[1]))
    life.until(OPENING + WEEK + LATE)
    trouble = wait_until(lambda: read_trouble(loop.loop.home), LOOP_TIMEOUT, "the monitor to say what is wrong")
    assert "cannot be written" in trouble.reason
    assert "free space" in trouble.reason
    assert life.failures == []
    assert backlog(loop.loop) > 0
    monitor.rlimit(psutil.RLIMIT_FSIZE, room)
    assert_nothing_lost(loop, life)
    wait_until(lambda: read_trouble(loop.loop.home) is None, LOOP_TIMEOUT, "the monitor to be well again")
    assert loop.window(OPENING).findings.rows == 7 * 24


def test_a_champion_whose_files_were_damaged_is_named_and_answers_on(loop: Stage) -> None:
    file = loop.stack.home / "registry" / "models" / "small" / "versions" / "1" / "model.txt"
    good = file.read_bytes()
    file.write_bytes(good.replace(b"tree", b"bush", 1))
    loop.history.start("retrain", {})
    failed = wait_until(lambda: failed_run(loop, "retrain"), FLOW_TIMEOUT, "the retraining to give up")
    assert f"{file} does not match its manifest" in failed.message
    told = wait_until(lambda: [one for one in loop.history.events() if one.name == RETRAIN_FAILED], LOOP_TIMEOUT, "the event")
    assert told[0].payload["flow_run"] == failed.id
    assert answering_version(loop) == 1
    file.write_bytes(good)


def test_a_week_that_fails_while_prefect_is_away_is_told_once_it_is_back_and_retrained_for_once(
    loop: Stage, life: Replay
) -> None:
    life.until(TURN + 2 * DAY)
    loop.window(TURN - WEEK)
    known = {run.id for run in loop.history.runs("retrain")}
    supervisord._call(loop.stack.socket, "supervisor.stopProcess", "prefect", True)
    life.until(TURN + WEEK + LATE)
    assert_nothing_lost(loop, life)
    wait_until(lambda: tries(loop) >= 4, LOOP_TIMEOUT, "the monitor to have tried in vain for a quarter of a minute")
    assert loop.closed(TURN) is None
    supervisord.start_program(loop.stack.socket, "prefect")
    decision = loop.window(TURN).decision
    assert decision.event_id is not None, decision.reason
    assert loop.run_of(decision.event_id).state == "COMPLETED"
    assert loop.event(decision.event_id).payload["version"] == 1
    assert [run.event_id for run in loop.history.runs("retrain") if run.id not in known] == [decision.event_id]
    wait_until(lambda: loop.serving == loop.champion == 2, LOOP_TIMEOUT, "version 2 to serve")
    assert life.failures == []
    assert_nothing_lost(loop, life)


def answering_version(loop: Stage) -> int:
    """The version that answers the first row of all once more; a row is archived once, however often it is asked for."""
    first = instances(the_world().filter(pl.col("asked_at") == OPENING))
    answer = httpx.post(f"{loop.service.url}/predict", json={"instances": first}, timeout=30).raise_for_status()
    return int(answer.json()["version"])


def failed_run(loop: Stage, flow: str) -> FlowRun | None:
    """A run of a flow that has failed, if there is one."""
    return next((run for run in loop.history.runs(flow) if run.state == "FAILED"), None)


def tries(loop: Stage) -> int:
    """How often the monitor has told the event in vain; it waits twice as long after each: 1, 2, 4, 8 seconds."""
    log = supervisord.log_file(loop.stack.state_dir, "worker").read_text(errors="replace")
    return log.count("sent again in")
