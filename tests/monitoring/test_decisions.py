"""Both decisions in the running monitor: what it trains and promotes, what it takes back, and what it remembers of it all."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import redis

from monitoring.events import CHALLENGER_DUE, MODEL_ROLLED_BACK, PROMOTION_DUE
from monitoring.state import WindowResult, load_results, load_state
from perennial.registry import CHAMPION, Registry
from perennial.settings import Settings
from perennial.spec import SignalsSpec
from tests.monitoring.running import LATER, MODEL, NOWHERE, WEEK, Crash, crash, home, one_model, run, told
from tests.monitoring.streams import serve
from tests.support.models import publish_small, small_frame, small_spec, train_small
from tests.support.prefect_server import pointed_at

QUIET = small_spec().model_copy(update={"signals": SignalsSpec(drift=False, blocks=3)})
"""Drift of a week of so few rows is as often over its bound as not; the account is what these scenes are about."""


@pytest.fixture
def settings(tmp_path: Path, store_url: str) -> Settings:
    settings = Settings(home=tmp_path, redis_url=store_url)
    publish_small(registry(settings), MODEL)
    return settings


def registry(settings: Settings) -> Registry:
    return Registry(settings.registry_url)


def turned(weeks: int, after: int, seed: int = 5, shift: float = 0.0) -> pl.DataFrame:
    """Whole weeks in which a yes is a no, and two days that let their windows close."""
    frame = small_frame(rows=weeks * WEEK + 48, seed=seed, start=LATER + timedelta(weeks=after), shift=shift)
    return frame.with_columns((1 - pl.col("outcome")).alias("outcome"))


def challenger(settings: Settings, after: int, promote: bool = False) -> int:
    """A version that has learnt the turned week before the one that begins so many weeks after the first training."""
    return publish_small(registry(settings), train_small(turned(1, after - 1, seed=8).head(WEEK)), promote)


def results(settings: Settings) -> tuple[WindowResult, ...]:
    return load_results(home(settings))


def test_a_challenger_that_would_have_saved_enough_is_promoted(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    challenger(settings, 101)
    serve(store, MODEL, turned(1, 101))
    assert run(settings, one_model(QUIET)).requests == 1
    (result,) = results(settings)
    assert result.decision.kind == "promotion", result.decision.reason
    account = result.account
    assert account is not None
    assert account.newest is not None
    assert (account.champion, account.newest.version, account.newest.rows, account.windows) == (1, 2, WEEK, 1)
    assert account.avoidable > account.cost + account.error
    assert account.newest.champion_loss > account.newest.other_loss
    (event,) = told(prefect_api, result.decision.event_id)
    assert event["event"] == PROMOTION_DUE
    payload = event["payload"]
    assert (payload["cause"], payload["version"], payload["evidence"]["challenger"]) == ("promotion", 1, 2)
    assert payload["evidence"]["avoidable"] > payload["evidence"]["cost"] == 0.2
    assert registry(settings).aliases("small").champion == 1, "the flow promotes, the monitor asks"


def test_a_challenger_that_is_worse_is_not(store: redis.Redis, settings: Settings) -> None:
    """The mirror of the test above: the same rows, and champion and challenger have changed places."""
    right = challenger(settings, 103, promote=True)
    wrong = publish_small(registry(settings), MODEL, promote=False)
    serve(store, MODEL, turned(1, 103))
    with pointed_at(NOWHERE):
        run(settings, one_model(QUIET))
    (result,) = results(settings)
    assert result.account is not None
    assert result.account.newest is not None
    assert (result.version, result.account.newest.version) == (right, wrong)
    assert result.account.avoidable < 0
    assert (result.decision.kind, result.account.due) == ("none", False)


@pytest.mark.parametrize("step", ["monitoring.closing.save_result", "monitoring.session.save_state"])
def test_a_crash_books_no_window_twice(
    store: redis.Redis, settings: Settings, prefect_api: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    after = 110 + len(step)
    challenger(settings, after)
    serve(store, MODEL, turned(2, after))
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(Crash):
            run(settings, one_model(QUIET))
    run(settings, one_model(QUIET))
    assert [one.account.windows for one in results(settings) if one.account] == [1, 2]
    kept = load_state(home(settings)).account
    assert kept is not None
    assert len(kept.challengers) == 2


def test_a_champion_that_does_worse_than_its_predecessor_is_rolled_back(
    store: redis.Redis, settings: Settings, prefect_api: str
) -> None:
    right = challenger(settings, 105, promote=True)
    wrong = publish_small(registry(settings), MODEL)
    serve(store, MODEL, turned(1, 105))
    with pointed_at(NOWHERE):
        assert run(settings, one_model(QUIET)).waiting
        assert registry(settings).aliases("small").champion == wrong, "told, then done"
    assert run(settings, one_model(QUIET)).requests == 0
    (result,) = results(settings)
    assert result.decision.kind == "rollback", result.decision.reason
    assert f"version {wrong} is better than version {right}" in result.decision.reason
    move = registry(settings).history("small")[-1]
    assert (move.alias, move.version, move.previous) == (CHAMPION, right, wrong)
    assert move.reason == f"rolled back: {result.decision.reason}"
    (event,) = told(prefect_api, result.decision.event_id)
    assert event["event"] == MODEL_ROLLED_BACK
    assert (event["payload"]["version"], event["payload"]["previous"]) == (right, wrong)
    serve(store, MODEL, turned(1, 106).slice(48))
    run(settings, one_model(QUIET))
    assert registry(settings).aliases("small").champion == right, "it stays"
    assert results(settings)[-1].decision.kind == "none", results(settings)[-1].decision.reason


def test_a_champion_as_good_as_its_predecessor_stays(store: redis.Redis, settings: Settings) -> None:
    publish_small(registry(settings), train_small(small_frame(rows=5 * WEEK)))
    serve(store, MODEL, small_frame(rows=WEEK + 48, seed=5, start=LATER + timedelta(weeks=1)))
    with pointed_at(NOWHERE):
        run(settings, one_model(QUIET))
    (result,) = results(settings)
    assert result.account is not None
    assert result.account.predecessor is not None
    assert result.account.champion_better is not None
    assert (result.decision.kind, result.version) == ("none", 2)


def test_a_quiet_month_asks_for_a_challenger(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    serve(store, MODEL, small_frame(rows=4 * WEEK + 48, seed=5, start=LATER))
    calendar = QUIET.model_copy(update={"policy": QUIET.policy.model_copy(update={"train_on": ("every",)})})
    assert run(settings, one_model(calendar)).requests == 4
    decided = [one.decision.kind for one in results(settings)]
    assert decided == ["challenger"] * 4, "and again, while no training answers: it may have failed"
    (event,) = told(prefect_api, results(settings)[0].decision.event_id)
    assert (event["event"], event["payload"]["cause"]) == (CHALLENGER_DUE, "challenger")


def test_without_labels_drift_promotes(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    serve(store, MODEL, turned(1, 109, shift=1.5), labels=False)
    run(settings)
    (result,) = results(settings)
    assert result.decision.kind == "promotion"
    assert "no label has ever come, so drift promotes what the guardrails let pass" in result.decision.reason


def test_broken_data_enter_no_account(store: redis.Redis, settings: Settings, prefect_api: str) -> None:
    challenger(settings, 111)
    broken = turned(1, 111).with_columns(amount=pl.lit(None, pl.Float64))
    serve(store, MODEL, broken)
    run(settings, one_model(QUIET))
    (result,) = results(settings)
    assert result.decision.kind == "data"
    assert result.account is not None
    assert (result.account.windows, result.account.unlabelled) == (0, 0)
