"""Every process of the loop is killed in the middle of its work, one after the other: nothing is lost, and the loop goes on."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl
import pytest

from monitoring.receipts import is_acknowledged, is_settled
from tests.faults.conftest import LATE, OPENING, WEEK, assert_nothing_lost, unanswered, world
from tests.faults.victims import kill, long_after, wait_for_another
from tests.support.stack import LOOP_TIMEOUT, Replay, Stage
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


def test_a_killed_retraining_does_not_keep_the_model_quiet_for_a_whole_cooldown(loop: Stage, life: Replay) -> None:
    """The next week would be within the cooldown; but the request was told more than an hour ago, and nothing came of it."""
    life.until(TURN + WEEK + LATE, insist=True)
    first = loop.window(TURN).decision
    assert first.event_id is not None, first.reason
    wait_until(partial(is_acknowledged, loop.loop.home, first.event_id), LOOP_TIMEOUT, "the retraining to take the request")
    kill(loop, "retrain")
    assert loop.run_of(first.event_id).state == "CRASHED"
    assert loop.champion == loop.serving == 1
    assert is_acknowledged(loop.loop.home, first.event_id)
    assert not is_settled(loop.loop.home, first.event_id)
    long_after(loop)
    life.until(TURN + 2 * WEEK + LATE, insist=True)
    second = loop.window(TURN + WEEK).decision
    assert second.event_id is not None, second.reason
    assert loop.run_of(second.event_id).state == "COMPLETED"
    assert is_settled(loop.loop.home, second.event_id)
    wait_until(lambda: loop.serving == loop.champion == 2, LOOP_TIMEOUT, "version 2 to serve")
    assert_nothing_lost(loop, life)
