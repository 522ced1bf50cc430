"""A request that Prefect confirmed and lost is sent again under the same id, until a retraining has acknowledged it."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import redis

from deployments.stack.prefect_server import COMMAND, api_url, server_environment
from monitoring import policy, receipts
from monitoring.archive import Archive
from monitoring.policy import FIRST_REMINDER, RetrainRequestState
from monitoring.receipts import without_outcome
from monitoring.state import load_results, load_state, save_state
from perennial.registry import Registry
from perennial.settings import Settings
from tests.monitoring.requests import sent
from tests.monitoring.running import LATER, MODEL, NOWHERE, WEEK, following, home, prefect_events, run, told, weeks
from tests.monitoring.streams import serve
from tests.monitoring.test_events import events_of
from tests.support.models import START, publish_small, small_frame, small_model
from tests.support.prefect_server import healthy, pointed_at
from tests.support.processes import free_port, running, wait_ready

MINUTE = timedelta(minutes=1)


@pytest.fixture
def settings(tmp_path: Path, store: redis.Redis, store_url: str) -> Settings:
    settings = Settings(home=tmp_path, redis_url=store_url)
    publish_small(Registry(settings.registry_url), MODEL)
    return settings


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, reminders are due after a moment and not after minutes."""

    def wait_less() -> None:
        monkeypatch.setattr(policy, "FIRST_REMINDER", timedelta(milliseconds=200))
        monkeypatch.setattr(policy, "LAST_REMINDER", timedelta(milliseconds=200))

    return wait_less


def standing(settings: Settings) -> RetrainRequestState:
    found = load_state(home(settings)).last_request
    assert found is not None
    return found


def times() -> Iterator[float]:
    """Minutes after an event at which it is told again."""
    one = sent("small", START)
    for second in range(3 * 3600):
        now = START + timedelta(seconds=second)
        if one.reminder_due(now):
            yield (now - START) / MINUTE
            one = one.model_copy(update={"last_sent_at": now})


def test_waits_double_from_one_minute_to_ten() -> None:
    assert FIRST_REMINDER == MINUTE
    first = [next(moments := times()), *(next(moments) for _ in range(6))]
    assert first == [1, 2, 4, 8, 16, 26, 36]


def test_what_is_answered_is_not_told_again() -> None:
    assert not sent("small", START).model_copy(update={"closed": True}).reminder_due(START + timedelta(days=1))


def test_a_request_is_unsettled_until_it_has_an_outcome(tmp_path: Path) -> None:
    one, now = sent("small", START), START + 90 * MINUTE
    assert without_outcome(tmp_path, None, now) == timedelta()
    receipts.acknowledge(tmp_path, one.request.event_id, START)
    assert without_outcome(tmp_path, one, now) == 90 * MINUTE
    receipts.record_outcome(tmp_path, one.request.event_id, "held", now)
    assert without_outcome(tmp_path, one, now) == timedelta()


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
            wait(lambda: [event["id"] for event in events_of(url, "small")] == [result.decision.event_id])
            receipts.acknowledge(home(settings), str(result.decision.event_id), datetime.now(UTC))
            wait(lambda: standing(settings).closed)


def test_the_next_run_reminds_and_a_living_server_sees_one_event(
    store: redis.Redis, settings: Settings, prefect_api: str, impatient: Callable[[], None]
) -> None:
    serve(store, MODEL, weeks(1, shift=1.5, after=50))
    assert (run(settings).requests, standing(settings).request.version) == (1, 1)
    id_ = standing(settings).request.event_id
    impatient()
    with following(settings) as wait:
        wait(lambda: standing(settings).last_sent_at > standing(settings).sent_at)
    assert len(told(prefect_api, id_)) == 1
    assert [event["id"] for event in prefect_events(prefect_api)].count(id_) == 1


def test_without_prefect_a_reminder_disturbs_nothing(
    store: redis.Redis, settings: Settings, prefect_api: str, impatient: Callable[[], None]
) -> None:
    serve(store, MODEL, weeks(1, shift=1.5, after=51))
    run(settings)
    first = standing(settings)
    impatient()
    with following(settings, pointed=NOWHERE) as wait:
        wait(lambda: standing(settings).last_sent_at > first.sent_at)
        serve(store, MODEL, small_frame(rows=WEEK, seed=6, start=LATER + timedelta(weeks=52, days=2)))
        wait(lambda: len(load_results(home(settings))) == 2)
    assert standing(settings).request == first.request


@pytest.mark.parametrize("answered", [True, False])
def test_a_receipt_or_another_champion_ends_the_reminders(
    store: redis.Redis, settings: Settings, prefect_api: str, answered: bool
) -> None:
    serve(store, MODEL, weeks(1, shift=1.5, after=52 + answered))
    run(settings)
    first = standing(settings)
    save_state(home(settings), load_state(home(settings)).model_copy(update={"last_request": aged(first, MINUTE)}))
    if answered:
        receipts.acknowledge(home(settings), first.request.event_id, datetime.now(UTC))
    else:
        publish_small(Registry(settings.registry_url), small_model(rows=24 * 28, version=2, seed=3))
    assert run(settings).reminders == 0
    assert standing(settings).closed


def test_broken_data_is_told_once_and_awaits_nothing(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    serve(store, MODEL, weeks(1, after=54).with_columns(amount=pl.lit(None, pl.Float64)))
    run(settings)
    (result,) = load_results(home(settings))
    assert result.decision.kind == "data"
    assert load_state(home(settings)).last_request is None


@pytest.mark.parametrize(("hours", "outcome", "kind"), [(0.9, None, "none"), (1.1, None, "drift"), (1.1, "failed", "none")])
def test_a_retraining_that_was_killed_keeps_nobody_quiet_for_longer_than_an_hour(
    store: redis.Redis,
    settings: Settings,
    prefect_api: str,
    hours: float,
    outcome: receipts.Outcome | None,
    kind: str,
) -> None:
    after = 60 + 3 * int(10 * hours) + (outcome is not None)
    frame = weeks(2, shift=1.5, after=after)
    serve(store, MODEL, frame.head(WEEK + 48))
    run(settings)
    first = standing(settings)
    receipts.acknowledge(home(settings), first.request.event_id, datetime.now(UTC))
    if outcome:
        receipts.record_outcome(home(settings), first.request.event_id, outcome, datetime.now(UTC))
    sent_then = aged(first, timedelta(hours=hours))
    save_state(home(settings), load_state(home(settings)).model_copy(update={"last_request": sent_then}))
    serve(store, MODEL, frame.slice(WEEK + 48))
    run(settings)
    _, second = load_results(home(settings))
    assert (second.decision.kind, second.decision.in_cooldown) == (kind, kind == "none")
    asked = standing(settings).request.event_id
    assert (asked == first.request.event_id) == (kind == "none")


def aged(one: RetrainRequestState, by: timedelta) -> RetrainRequestState:
    """The same, told so much earlier."""
    return one.model_copy(update={"sent_at": one.sent_at - by, "last_sent_at": one.last_sent_at - by})
