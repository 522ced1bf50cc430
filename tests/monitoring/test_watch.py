"""The watch with real parts: store, Parquet, registry and Prefect server. One scene per promise."""

from datetime import timedelta
from pathlib import Path

import pytest
import redis

from monitoring import follower as follower_module
from monitoring.events import window_event_id
from monitoring.ledger import Ledger
from monitoring.state import WindowResult, load_results, load_state
from monitoring.trouble import read_trouble
from perennial.errors import SettingsError, StoreUnreachable
from perennial.log_columns import ID
from perennial.record import encode_batch
from perennial.registry import Registry
from perennial.settings import Settings
from service.prediction_log.redis_client import connect
from service.prediction_log.streams import GROUP, append, labels_stream, predictions_stream
from tests.monitoring import streams
from tests.monitoring.room import no_room
from tests.monitoring.running import (
    LATER,
    MODEL,
    NOWHERE,
    SPEC_PATH,
    WEEK,
    Crash,
    archive,
    crash,
    following,
    home,
    run,
    told,
    weeks,
)
from tests.monitoring.streams import serve
from tests.support.models import publish_small, small_model
from tests.support.prefect_server import pointed_at
from tests.support.processes import free_port
from tests.support.store import valkey

STEPS = (
    "monitoring.consumer.StreamConsumer.acknowledge",
    "monitoring.showing.write_report",
    "monitoring.closing.write_decision",
    "monitoring.closing.send",
    "monitoring.closing.advance",
    "monitoring.closing.save_result",
    "monitoring.session.save_state",
)


@pytest.fixture
def settings(tmp_path: Path, store: redis.Redis, store_url: str) -> Settings:
    settings = Settings(home=tmp_path, redis_url=store_url)
    publish_small(Registry(settings.registry_url), MODEL)
    return settings


def test_ordinary_weeks_are_archived_judged_and_written_down(store: redis.Redis, settings: Settings) -> None:
    frame = weeks(2)
    serve(store, MODEL, frame)
    seen: list[WindowResult] = []
    with pointed_at(NOWHERE):  # nothing happened, so nothing is told
        summary = run(settings, on_window=seen.append)
    assert (summary.active, summary.windows, summary.requests, summary.waiting) == (True, 2, 0, False)
    assert summary.ingested.model_dump() == {"entries": 32, "unreadable": 0, "predictions": 384, "labels": 384}
    assert archive(settings).counts().model_dump() == {"predictions": 384, "labels": 384, "joined": 384}
    assert list(load_results(home(settings))) == seen
    first = seen[0]
    assert (first.window.start, first.findings.rows, first.findings.labelled) == (LATER, WEEK, WEEK)
    assert (first.rows_by_version, first.version) == ({1: WEEK}, 1)
    assert (first.decision.kind, first.findings.bounds["drift"]) == ("none", 0.1)
    assert first.metrics == first.served_metrics
    assert list(first.findings.values) == ["drift", "loss", "auc", "calibration", "base_rate"]
    assert sorted(first.distances) == ["amount", "shop"]
    assert first.report is not None
    assert {path.suffix for path in home(settings).glob("reports/*")} == {".html", ".json", ".js"}
    assert list(home(settings).glob("evidently/*"))
    for stream in (predictions_stream("small"), labels_stream("small")):
        assert (store.xlen(stream), store.xpending(stream, GROUP)["pending"]) == (0, 0)


def test_drift_asks_for_a_retraining_once_and_cools_down(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    serve(store, MODEL, weeks(3, shift=1.5))
    assert run(settings).requests == 2
    results = load_results(home(settings))
    ids = [window_event_id("small", 1, MODEL.card.trained_at, one.window, "drift") for one in results]
    decided = [(one.decision.kind, one.decision.in_cooldown) for one in results]
    assert decided == [("drift", False), ("none", True), ("drift", False)]
    assert [one.decision.event_id for one in results] == [ids[0], None, ids[2]]
    (event,) = told(prefect_api, ids[0])
    assert told(prefect_api, ids[2])
    assert event["event"] == "perennial.drift.detected"
    assert event["resource"]["perennial.spec"] == SPEC_PATH
    payload = event["payload"]
    assert (payload["model"], payload["version"], payload["cause"]) == ("small", 1, "drift")
    assert payload["evidence"]["drift"] > payload["evidence"]["drift_bound"] == 0.1
    assert payload["evidence"]["top_features"].startswith("amount")
    assert Path(payload["report"]).exists()


def test_without_prefect_archiving_goes_on_and_the_event_is_told_later(
    store: redis.Redis, settings: Settings, prefect_api: str
) -> None:
    frame = weeks(1, shift=1.5, after=10)
    serve(store, MODEL, frame)
    with pointed_at(NOWHERE):
        summary = run(settings)
    assert (summary.windows, summary.waiting) == (0, True)
    assert archive(settings).counts().joined == frame.height
    assert not load_results(home(settings))
    assert load_state(home(settings)).closed_until is None
    assert run(settings).windows == 1
    (result,) = load_results(home(settings))
    assert result.decision.kind == "drift"
    assert told(prefect_api, result.decision.event_id)


def test_the_event_is_retried_while_the_run_goes_on(
    store: redis.Redis, settings: Settings, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "FIRST_RETRY", timedelta(milliseconds=50))
    serve(store, MODEL, weeks(1, shift=1.5, after=20))
    with following(settings, pointed=NOWHERE) as wait:
        wait(lambda: archive(settings).counts().joined > 0)
        with pointed_at(prefect_api):
            wait(lambda: load_results(home(settings)))
            assert told(prefect_api, load_results(home(settings))[0].decision.event_id)


def test_it_follows_the_stream_and_another_run_stands_by(store: redis.Redis, settings: Settings) -> None:
    frame = weeks(1)
    with following(settings) as wait:
        serve(store, MODEL, frame.head(100))
        wait(lambda: archive(settings).counts().joined == 100)
        assert not run(settings).active
        serve(store, MODEL, frame.slice(100))
        wait(lambda: load_results(home(settings)))
        assert store.exists("perennial:small:monitor")
    assert not store.exists("perennial:small:monitor")
    assert run(settings).active


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_anywhere_loses_nothing_and_doubles_nothing(
    store: redis.Redis, settings: Settings, prefect_api: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    frame = weeks(1, shift=1.5, after=30 + STEPS.index(step))
    serve(store, MODEL, frame)
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(Crash):
            run(settings)
    run(settings)
    assert archive(settings).counts().model_dump() == dict.fromkeys(("predictions", "labels", "joined"), frame.height)
    assert not archive(settings).scan().collect()[ID].is_duplicated().any()
    (result,) = load_results(home(settings))
    assert len(told(prefect_api, result.decision.event_id)) == 1
    (decided,) = Ledger(home(settings)).entries()
    assert (decided.event_id, decided.stage, decided.count("sent")) == (result.decision.event_id, "sent", 1)
    assert store.xlen(predictions_stream("small")) == 0


def test_a_report_that_cannot_be_made_holds_nothing_up(
    store: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Evidently has a bad day")

    monkeypatch.setattr("monitoring.showing.write_report", fail)
    serve(store, MODEL, weeks(1))
    run(settings)
    (result,) = load_results(home(settings))
    assert result.report is None


def test_a_full_disk_acknowledges_nothing(store: redis.Redis, settings: Settings) -> None:
    serve(store, MODEL, weeks(1))
    with no_room():
        assert "free space" in run(settings).failing["small"]
    assert store.xlen(predictions_stream("small")) == 9
    assert run(settings).ingested.predictions == WEEK + 48


def test_a_promotion_while_the_window_is_open_judges_by_the_new_champion(store: redis.Redis, settings: Settings) -> None:
    """The new one was trained on most of the week: it is not blamed for what the old one answered, nor for learning it."""
    frame = weeks(1, shift=1.5)
    serve(store, MODEL, frame)
    publish_small(Registry(settings.registry_url), small_model(rows=24 * 28 + WEEK))
    run(settings)
    (result,) = load_results(home(settings))
    assert (result.version, result.rows_by_version, result.findings.trained_on_share) == (2, {1: WEEK}, 1.0)
    assert (result.decision.kind, result.decision.reason) == ("none", "the champion was trained on 100% of this window")
    assert result.served_metrics != result.metrics


def test_the_first_window_is_not_judged_when_the_log_begins_in_it(store: redis.Redis, settings: Settings) -> None:
    serve(store, MODEL, weeks(2, shift=1.5).slice(72))
    with pointed_at(NOWHERE):
        run(settings)
    first, *_ = load_results(home(settings)) or [None]
    assert first is not None
    assert first.findings.coverage == pytest.approx(4 / 7)
    assert "covers only 57%" in first.decision.reason


def test_labels_that_come_later_revise_what_was_measured_and_not_what_was_decided(store: redis.Redis, settings: Settings) -> None:
    frame = weeks(2)
    first, rest = frame.head(WEEK + 48), frame.slice(WEEK + 48)
    serve(store, MODEL, first, labels=False)
    run(settings)
    (before,) = load_results(home(settings))
    assert (before.findings.labelled, before.metrics) == (0, None)
    append(store, labels_stream("small"), encode_batch(streams.told(MODEL, first)))
    serve(store, MODEL, rest, labels=False)
    run(settings)
    revised, other = load_results(home(settings))
    assert (revised.window, revised.findings.labelled) == (before.window, WEEK)
    assert "loss" in revised.findings.values.keys() - before.findings.values.keys()
    assert revised.metrics is not None
    assert (revised.decision, revised.closed_at) == (before.decision, before.closed_at)
    assert other.findings.labelled == 48
    assert archive(settings).counts().joined == first.height


def test_before_the_first_promotion_it_waits(store: redis.Redis, tmp_path: Path, store_url: str) -> None:
    settings = Settings(home=tmp_path, redis_url=store_url)
    assert run(settings).ingested.entries == 0
    with following(settings) as wait:
        publish_small(Registry(settings.registry_url), MODEL)
        serve(store, MODEL, weeks(1))
        wait(lambda: load_results(home(settings)))


def test_a_store_that_is_away_is_named_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9 does not take commands"):
        run(Settings(home=tmp_path, redis_url="redis://127.0.0.1:9"))
    with pytest.raises(SettingsError, match="REDIS_URL"):
        run(Settings(home=tmp_path))


def test_a_callback_that_fails_is_not_the_monitors_end(store: redis.Redis, settings: Settings) -> None:
    def fail(_: WindowResult) -> None:
        raise ValueError("no artifact today")

    serve(store, MODEL, weeks(2))
    assert run(settings, on_window=fail).windows == 2


def test_a_store_that_goes_away_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    """What was not settled is in the store's append-only file, and comes again."""
    frame, port = weeks(1), free_port()
    url = f"redis://127.0.0.1:{port}/0"
    settings = Settings(home=tmp_path, redis_url=url)
    publish_small(Registry(settings.registry_url), MODEL)
    monitor = following(settings)
    with valkey(tmp_path, port), connect(url) as store:
        wait = monitor.__enter__()
        serve(store, MODEL, frame.head(100))
        wait(lambda: archive(settings).counts().joined == 100)
    with valkey(tmp_path, port), connect(url) as store:
        serve(store, MODEL, frame.slice(100))
        wait(lambda: load_results(home(settings)))
        monitor.__exit__()
    assert archive(settings).counts().joined == frame.height


def test_trouble_with_a_disk_is_not_taken_for_trouble_with_the_store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError("the registry's disk")

    monkeypatch.setattr("monitoring.follower.load_champion", fail)
    assert run(settings).failing == {"small": "the registry's disk"}
    trouble = read_trouble(home(settings))
    assert trouble is not None
    assert (trouble.reason, trouble.tries) == ("the registry's disk", 1)
    monkeypatch.undo()
    assert run(settings).failing == {}
