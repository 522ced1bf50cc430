"""The loop's figures: what a run leaves for the service's metrics, while all is well and while it is not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from monitoring.ledger import record_outcome, start, write_decision
from monitoring.loop_figures import INTERVAL, OPEN_INTERVAL, LoopRecorder
from monitoring.state import STATE
from perennial.settings import Settings
from service.loop_metrics import FIGURES, LoopFigures, read_figures
from tests.monitoring.requests import request_for
from tests.monitoring.running import MODEL, NOWHERE, home, run, weeks
from tests.monitoring.streams import serve
from tests.monitoring.test_watch import settings
from tests.support.lived import live
from tests.support.models import small_spec
from tests.support.prefect_server import pointed_at

__all__ = ["settings"]  # the fixture

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def figures(home: Path) -> LoopFigures:
    found = read_figures(home)
    assert found is not None
    return found


def test_a_run_leaves_what_it_has_closed_and_says_when_it_cannot_follow(store: redis.Redis, settings: Settings) -> None:
    serve(store, MODEL, weeks(2))
    with pointed_at(NOWHERE):
        run(settings)
    well = figures(home(settings))
    assert (well.windows, well.requests, well.failing, well.unconfirmed) == ({"none": 2}, {}, False, False)
    assert (well.rows, well.labelled, well.champion, well.alarms["drift"]) == (168, 168, 1, False)
    state = home(settings) / STATE
    kept = state.read_text()
    state.write_text("{")
    run(settings)
    failing = figures(home(settings))
    assert (failing.failing, failing.seen_at, failing.windows) == (True, well.seen_at, {"none": 2})
    state.write_text(kept)
    run(settings)
    assert (figures(home(settings)).failing, figures(home(settings)).windows) == (False, {"none": 2})


def test_an_event_that_prefect_does_not_confirm_is_said(store: redis.Redis, settings: Settings) -> None:
    serve(store, MODEL, weeks(1, shift=1.5, after=20))
    with pointed_at(NOWHERE):
        run(settings)
    assert (figures(home(settings)).unconfirmed, figures(home(settings)).windows) == (True, {})


@pytest.fixture
def lived(tmp_path: Path) -> Path:
    return live(tmp_path).model_home("small")


def written(recorder: LoopRecorder, home: Path, now: datetime) -> LoopFigures:
    recorder.turn_ended(now, unconfirmed=False)
    return figures(home)


def test_a_request_is_unacknowledged_then_open_then_settled(lived: Path) -> None:
    recorder, request, later = LoopRecorder(small_spec(), lived), request_for("small"), NOW + OPEN_INTERVAL
    write_decision(lived, request, NOW)
    waiting = written(recorder, lived, NOW)
    assert (waiting.unacknowledged, waiting.open_since, waiting.outcomes) == (True, None, {"declined": 1})
    start(lived, request.event_id, later)
    begun = written(recorder, lived, later)
    assert (begun.unacknowledged, begun.open_since) == (False, NOW)
    record_outcome(lived, request.event_id, "failed", later, reason="no room")
    failed = written(recorder, lived, later + OPEN_INTERVAL)
    assert (failed.open_since, failed.last_outcome, failed.outcomes) == (None, "failed", {"declined": 1, "failed": 1})


def test_nothing_is_written_while_nothing_happens(lived: Path) -> None:
    recorder = LoopRecorder(small_spec(), lived)
    first = written(recorder, lived, NOW)
    assert written(recorder, lived, NOW + INTERVAL - timedelta(seconds=1)) == first
    assert written(recorder, lived, NOW + INTERVAL).seen_at == NOW + INTERVAL


def test_figures_that_cannot_be_written_hold_no_turn_up(lived: Path, caplog: pytest.LogCaptureFixture) -> None:
    (lived / FIGURES).mkdir(parents=True)
    LoopRecorder(small_spec(), lived).turn_ended(NOW, unconfirmed=False)
    assert "cannot be written" in caplog.text
    assert read_figures(lived) is None
