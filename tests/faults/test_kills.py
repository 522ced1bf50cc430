"""Every process of the loop is killed in the middle of its work, one after the other: nothing is lost, and the loop goes on."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from monitoring.ledger import LedgerEntry, read_entry
from tests.faults.conftest import LATE, OPENING, WEEK, assert_nothing_lost, unanswered, world
from tests.faults.victims import kill, wait_for_another
from tests.support.stack import FLOW_TIMEOUT, LOOP_TIMEOUT, Replay, Stage
from tests.support.waiting import wait_until

VICTIMS = ("monitor", "store", "prefect", "worker", "service")
"""Each has a week of its own to die in."""

ANSWERING = ("service",)
"""Without it a request fails and the client asks again; without the others every request is answered."""

WORKER = "service worker"
TURN = OPENING + (len(VICTIMS) + 1) * WEEK


def the_world() -> pl.DataFrame:
    """The last weeks are such that a retraining is asked for."""
    return world(ordinary=len(VICTIMS) + 1, turned=3)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_process_comes_back_and_nothing_is_lost(loop: Stage, life: Replay, victim: str) -> None:
    week = OPENING + VICTIMS.index(victim) * WEEK
    asked, before = len(life.asked), len(unanswered(life))
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(life.until, week + WEEK + LATE, insist=True)
        wait_until(lambda: len(life.asked) > asked + 48, 30, "the week to be under way")
        died = kill(loop, victim)
        rest.result(LOOP_TIMEOUT)
    wait_for_another(loop, victim, than=died)
    assert victim in ANSWERING or not unanswered(life)[before:]
    assert_nothing_lost(loop, life)
    assert loop.window(week).findings.rows == 7 * 24
    wait_until(loop.api.healthy, LOOP_TIMEOUT, "the Prefect server to answer")


def test_the_monitor_came_back_by_the_automation_and_not_by_the_schedule(loop: Stage) -> None:
    first, second, *_ = loop.history.runs("monitor")
    assert (first.state, first.automated) == ("CRASHED", False)
    assert second.automated


def test_a_service_worker_killed_between_two_requests_is_replaced(loop: Stage, life: Replay) -> None:
    """Between two, because what it has answered and not yet told the store dies with it: see `service/log.py`."""
    loop.archived()
    died = kill(loop, WORKER)
    life.until(TURN + LATE, insist=True)
    wait_for_another(loop, WORKER, than=died)
    assert_nothing_lost(loop, life)
    assert loop.window(TURN - WEEK).findings.rows == 7 * 24


def test_a_killed_retraining_is_run_again_for_the_same_request(loop: Stage, life: Replay) -> None:
    """Its run is taken for dead, and the request is sent under another id: one cause, one promotion."""
    life.until(TURN + WEEK + LATE, insist=True)
    asked = loop.window(TURN).decision
    assert asked.event_id is not None, asked.reason
    wait_until(lambda: decision(loop, asked.event_id).stage == "started", LOOP_TIMEOUT, "the retraining to take the request")
    kill(loop, "retrain")
    assert loop.run_of(asked.event_id).state == "CRASHED"
    assert loop.champion == loop.serving == 1
    ended = wait_until(lambda: _if_ended(decision(loop, asked.event_id)), FLOW_TIMEOUT + LOOP_TIMEOUT, "an outcome")
    assert (ended.outcome, len(ended.died), ended.count("sent")) == ("promoted", 1, 2)
    wait_until(lambda: loop.serving == loop.champion == 2, LOOP_TIMEOUT, "version 2 to serve")
    assert_nothing_lost(loop, life)


def decision(loop: Stage, event_id: str | None) -> LedgerEntry:
    found = read_entry(loop.loop.home, str(event_id))
    assert found is not None
    return found


def _if_ended(entry: LedgerEntry) -> LedgerEntry | None:
    return entry if entry.outcome is not None else None
