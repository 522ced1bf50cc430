"""Runs of the monitor on real parts, and the weeks that they work through."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from monitoring.archive import Archive
from monitoring.fleet import Fleet, FollowedModel, MonitorSummary, ReadFleet
from monitoring.watch import watch
from perennial.errors import PerennialError
from perennial.settings import Settings
from perennial.spec import ModelSpec
from tests.support.models import START, small_frame, small_model, small_spec
from tests.support.prefect_server import pointed_at
from tests.support.waiting import wait_until

MODEL = small_model(rows=24 * 28)
"""Trained on four weeks; the scenes play in the weeks after."""

LATER = START + timedelta(days=28)
WEEK = 24 * 7
FAR = datetime(2900, 1, 1, tzinfo=UTC)
SPEC_PATH = "specs/small.toml"
NOWHERE = "http://127.0.0.1:9/api"


def weeks(count: int, shift: float = 0.0, after: int = 0) -> pl.DataFrame:
    """`count` whole weeks, `after` so many weeks after the training, and two days that let their windows close.

    Scenes that look for events play in weeks of their own: the server keeps those of all scenes.
    """
    return small_frame(rows=count * WEEK + 48, seed=5, start=LATER + timedelta(weeks=after), shift=shift)


def one_model(spec: ModelSpec) -> ReadFleet:
    """A fleet of the model of this spec alone."""
    return lambda: Fleet((FollowedModel(spec, Path(), SPEC_PATH),))


def run(settings: Settings, fleet: ReadFleet | None = None, **options: Any) -> MonitorSummary:
    """One run that works through what is there and ends."""
    options = {"until": datetime.now(UTC), **options}
    return watch(fleet or one_model(small_spec()), settings, **options)


def prefect_events(api: str) -> list[dict[str, Any]]:
    query = {"filter": {"event": {"prefix": ["perennial."]}, "resource": {"id": ["perennial.model.small"]}}, "limit": 50}
    return list(httpx.post(f"{api}/events/filter", json=query, timeout=10).json()["events"])


def told(api: str, id_: str | None) -> list[dict[str, Any]]:
    """The event with this id, once the server has written it down."""
    return wait_until(lambda: [event for event in prefect_events(api) if event["id"] == id_], 20, f"event {id_}")


def payloads_of(api: str, event_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The events that carry a request, each with its own id."""
    found = [(one["id"], one["payload"]) for one in prefect_events(api)]
    return [(id_, payload) for id_, payload in found if payload.get("event_id") == event_id]


def home(settings: Settings) -> Path:
    return settings.model_home("small")


def archive(settings: Settings) -> Archive:
    return Archive(home(settings), "binary", MODEL.card.schema_)


class following:  # noqa: N801 - reads as a phrase
    """A run that follows the streams in a thread until the block ends."""

    def __init__(self, settings: Settings, pointed: str | None = None, **options: Any) -> None:
        self._over = threading.Event()
        self._pointed = pointed_at(pointed) if pointed else None
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(settings, options), daemon=True)

    def _run(self, settings: Settings, options: dict[str, Any]) -> None:
        try:
            run(settings, until=FAR, clock=self._clock, **options)
        except PerennialError as error:
            self._errors.append(error)

    def _clock(self) -> datetime:
        return FAR if self._over.is_set() else datetime.now(UTC)

    def __enter__(self) -> Callable[[Callable[[], Any]], Any]:
        if self._pointed:
            self._pointed.__enter__()
        self._thread.start()
        return lambda predicate: wait_until(predicate, 60, "the watch")

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._pointed:
            self._pointed.__exit__(None, None, None)
        assert not self._errors


class Crash(BaseException):
    """The end of the process at some line."""


def crash(*_: object, **__: object) -> None:
    raise Crash
