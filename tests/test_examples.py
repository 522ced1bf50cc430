"""The example that no demo shows: bike sharing, a regression, through the same commands and the same loop as the flights.

Five months of 2011 are learnt, then summer comes. The flights are the demo's: see tests/deployments/demo/test_demo.py.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from deployments.replay.frozen_baseline import open_frozen_baseline
from monitoring.events import CHALLENGER_DUE, DRIFT_DETECTED, PERFORMANCE_DEGRADED
from monitoring.state import WindowResult, load_results
from perennial.registry import CHAMPION
from tasks.data.ingest import assemble
from tests.support.bike_sharing import HOURS, VARIABLE, needs_hours
from tests.support.processes import ROOT
from tests.support.stack import LOOP_TIMEOUT, Replay, Stage, perennial, stage
from tests.support.waiting import wait_until

SPEC = ROOT / "examples" / "bike_sharing.toml"

DAY = timedelta(days=1)
OPENING = datetime(2011, 5, 30, tzinfo=UTC)
"""The first model learns what came before: winter and spring. It is a day on which a window begins."""
MOST_WINDOWS = 12
"""Half a year: in this time a summer must have been noticed."""

pytestmark = needs_hours


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(SPEC, tmp_path_factory.mktemp("bikes") / "var", **{VARIABLE: str(HOURS)}) as up:
        yield up


@pytest.fixture(scope="module")
def life(loop: Stage) -> Replay:
    """Summer, a day per request and told a day later, from the table that the example's own loader reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(HOURS))
        table = assemble(loop.spec, SPEC.parent, os.environ).frame
    return loop.replay(table, OPENING, delay=DAY, step=DAY)


def test_the_example_is_understood() -> None:
    assert "regression" in perennial("check", str(SPEC), **{VARIABLE: str(HOURS)})


def test_it_is_trained_and_served(loop: Stage) -> None:
    loop.train(until=OPENING)
    card = loop.card(1)
    assert (card.task, card.cause.kind) == ("regression", "initial")
    assert {"drift", "loss"} <= card.bounds.keys()
    assert httpx.get(f"{loop.service.url}/model").json()["task"] == "regression"


def test_in_summer_a_challenger_is_trained_by_the_automation(loop: Stage, life: Replay) -> None:
    window = until_flow(loop, life, "retrain")
    assert window.decision.event_id is not None
    run = loop.run_of(window.decision.event_id)
    assert (run.automated, run.state) == (True, "COMPLETED"), run.message
    assert loop.event(window.decision.event_id).name in (CHALLENGER_DUE, DRIFT_DETECTED, PERFORMANCE_DEGRADED)
    assert loop.parameters(run)["event"] == loop.event(window.decision.event_id).payload
    assert (loop.card(2).cause.kind, loop.champion) == (window.decision.kind, 1)


def test_what_challengers_would_have_saved_promotes_a_version(loop: Stage, life: Replay) -> None:
    window = until_flow(loop, life, "promote")
    assert window.decision.kind == "promotion", window.decision.reason
    assert window.decision.event_id is not None
    run = loop.run_of(window.decision.event_id, "promote")
    assert (run.automated, run.state) == (True, "COMPLETED"), run.message
    assert loop.champion is not None
    assert loop.champion > 1
    wait_until(lambda: loop.serving == loop.champion, LOOP_TIMEOUT, "the service to answer with the new champion")


def until_flow(loop: Stage, life: Replay, flow: str) -> WindowResult:
    """Live on, window by window and training by training, to the first window that starts this flow."""
    length = loop.spec.window.length
    for start in (OPENING + number * length for number in range(len(load_results(loop.loop.home)), MOST_WINDOWS)):
        life.until(start + length + loop.spec.window.lateness + DAY)
        window = loop.window(start)
        if window.decision.flow == flow:
            return window
        if window.decision.flow is not None and window.decision.event_id is not None:
            loop.run_of(window.decision.event_id, window.decision.flow)
    raise AssertionError(f"none of {MOST_WINDOWS} windows has started {flow}: {window.decision.reason}")


def test_the_new_version_is_better_on_what_it_answers_than_the_first_would_have_been(loop: Stage, life: Replay) -> None:
    closed, length = len(load_results(loop.loop.home)), loop.spec.window.length
    life.until(OPENING + (closed + 1) * length + loop.spec.window.lateness + DAY)
    assert loop.window(OPENING + closed * length).findings.rows > 300
    counts = loop.archived()
    assert loop.client.total.failed == 0, loop.client.total.failures
    assert counts.predictions == len(life.asked)
    assert counts.joined == len(life.told)
    promoted = next(move.version for move in loop.registry.history(loop.spec.name) if move.alias == CHAMPION and move.previous)
    assert promoted is not None
    compared = open_frozen_baseline(loop.registry, loop.spec, SPEC.parent, loop.loop.home).answered_by(promoted)
    assert compared is not None
    assert compared.loop.values["rmse"] < compared.static.values["rmse"]
