"""Runs of the monitor and the decision ledger: what one has decided, the next one carries on with."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import redis

from deployments.stack.prefect_server import COMMAND, api_url, server_environment
from monitoring import reconciler
from monitoring.archive import Archive
from monitoring.ledger import Ledger, LedgerEntry, Outcome, record_outcome, start
from monitoring.state import load_results, load_state
from perennial.registry import Registry
from perennial.settings import Settings
from tests.monitoring.running import LATER, MODEL, WEEK, following, home, payloads_of, run, told, weeks
from tests.monitoring.streams import serve
from tests.monitoring.test_events import events_of
from tests.support.models import publish_small, small_frame, small_model
from tests.support.prefect_server import healthy, pointed_at
from tests.support.processes import free_port, running, wait_ready


@pytest.fixture
def settings(tmp_path: Path, store: redis.Redis, store_url: str) -> Settings:
    settings = Settings(home=tmp_path, redis_url=store_url)
    publish_small(Registry(settings.registry_url), MODEL)
    return settings


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, what has not started is sent again after a moment and not after minutes."""

    def wait_less() -> None:
        monkeypatch.setattr(reconciler, "FIRST_WAIT", timedelta(milliseconds=200))
        monkeypatch.setattr(reconciler, "LAST_WAIT", timedelta(milliseconds=200))

    return wait_less


def standing(settings: Settings) -> LedgerEntry:
    found = Ledger(home(settings)).last_request()
    assert found is not None
    return found


def test_an_event_that_died_with_its_server_is_told_to_the_next_one(
    store: redis.Redis, settings: Settings, tmp_path: Path, impatient: Callable[[], None]
) -> None:
    """The second server has nothing of what the first one knew: the worst that can happen to it."""
    serve(store, MODEL, weeks(1, shift=1.5))
    port = free_port()
    url = api_url(port)
    servers = [tmp_path / name for name in ("first", "second")]
    for server in servers:
        server.mkdir()
    with running(COMMAND, log := servers[0] / "log", server_environment(servers[0], port)) as process:
        wait_ready(process, lambda: healthy(url), log, 120, "the first server")
        with pointed_at(url):
            assert run(settings).requests == 1
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    (result,) = load_results(home(settings))
    impatient()
    with following(settings, pointed=url) as wait:
        serve(store, MODEL, small_frame(rows=24, seed=6, start=LATER + timedelta(hours=WEEK + 48)))
        wait(lambda: Archive(home(settings), "binary", MODEL.card.schema_).counts().predictions == WEEK + 72)
        with running(COMMAND, log := servers[1] / "log", server_environment(servers[1], port)) as process:
            wait_ready(process, lambda: healthy(url), log, 120, "the second server")
            wait(lambda: {event["payload"]["event_id"] for event in events_of(url, "small")} == {result.decision.event_id})
            start(home(settings), str(result.decision.event_id), datetime.now(UTC))
            record_outcome(home(settings), str(result.decision.event_id), "held", datetime.now(UTC))
            wait(lambda: standing(settings).outcome == "held")


def test_the_next_run_of_the_monitor_sends_it_again(
    store: redis.Redis, settings: Settings, prefect_api: str, impatient: Callable[[], None]
) -> None:
    serve(store, MODEL, weeks(1, shift=1.5, after=50))
    assert run(settings).requests == 1
    id_ = standing(settings).event_id
    impatient()
    with following(settings) as wait:
        wait(lambda: standing(settings).count("sent") == 2)
        wait(lambda: len(payloads_of(prefect_api, id_)) == 2)
    assert len({event for event, _ in payloads_of(prefect_api, id_)}) == 2


def test_a_window_whose_request_was_sent_keeps_it_though_its_champion_is_replaced_before_the_close(
    store: redis.Redis, settings: Settings, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault F10: the monitor was killed after its event and before it wrote, and the next one judged for the new champion."""
    serve(store, MODEL, weeks(1, shift=1.5, after=51))
    with monkeypatch.context() as patch:
        patch.setattr("monitoring.closing.save_result", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    asked = standing(settings)
    assert (asked.stage, load_results(home(settings))) == ("sent", ())
    start(home(settings), asked.event_id, datetime.now(UTC), "run-1")
    publish_small(Registry(settings.registry_url), small_model(rows=24 * 28, version=2, seed=3))
    record_outcome(home(settings), asked.event_id, "promoted", datetime.now(UTC), "run-1")
    assert run(settings).windows == 1
    (result,) = load_results(home(settings))
    assert (result.version, result.decision.kind, result.decision.event_id) == (1, "drift", asked.event_id)
    assert len(told(prefect_api, asked.event_id)) == 1
    assert [one.event_id for one in Ledger(home(settings)).entries()] == [asked.event_id]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_broken_data_is_told_once_and_awaits_nothing(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    serve(store, MODEL, weeks(1, after=54).with_columns(amount=pl.lit(None, pl.Float64)))
    run(settings)
    (result,) = load_results(home(settings))
    assert result.decision.kind == "data"
    assert Ledger(home(settings)).entries() == ()


@pytest.mark.parametrize(("hours", "outcome", "kind"), [(0.9, None, "none"), (1.1, None, "drift"), (1.1, "failed", "none")])
def test_a_request_that_nothing_came_of_keeps_nobody_quiet_for_longer_than_an_hour(
    store: redis.Redis, settings: Settings, prefect_api: str, hours: float, outcome: Outcome | None, kind: str
) -> None:
    after = 60 + 3 * int(10 * hours) + (outcome is not None)
    frame = weeks(2, shift=1.5, after=after)
    serve(store, MODEL, frame.head(WEEK + 48))
    then = datetime.now(UTC) - timedelta(hours=hours)
    ticks = _ticking(then)
    run(settings, until=then, clock=lambda: next(ticks))
    first = standing(settings)
    if outcome:
        start(home(settings), first.event_id, datetime.now(UTC), "run-1")
        record_outcome(home(settings), first.event_id, outcome, datetime.now(UTC), "run-1")
    serve(store, MODEL, frame.slice(WEEK + 48))
    run(settings)
    _, second = load_results(home(settings))
    assert (second.decision.kind, second.decision.in_cooldown) == (kind, kind == "none")
    assert (standing(settings).event_id == first.event_id) == (kind == "none")
    assert load_state(home(settings)).closed_until == second.window.end


def _ticking(then: datetime) -> Iterator[datetime]:
    while True:
        yield then
