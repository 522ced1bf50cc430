"""Events: what happened to a model, told to Prefect and confirmed. The only file that sends Prefect events.

`emit_event` returns normally when no server listens; `send` does not.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AwareDatetime, Field, JsonValue

from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable

DRIFT_DETECTED = "perennial.drift.detected"
PERFORMANCE_DEGRADED = "perennial.performance.degraded"
MODEL_AGED = "perennial.model.aged"
DATA_BROKEN = "perennial.data.broken"
RETRAIN_STARTED = "perennial.retrain.started"
RETRAIN_DECLINED = "perennial.retrain.declined"
RETRAIN_FAILED = "perennial.retrain.failed"
MODEL_PROMOTED = "perennial.model.promoted"
MODEL_HELD = "perennial.model.held"
MODEL_REJECTED = "perennial.model.rejected"
MODEL_ROLLED_BACK = "perennial.model.rolled-back"

Cause = Literal["drift", "performance", "age", "data"]

NAMES: Mapping[Cause, str] = {
    "drift": DRIFT_DETECTED,
    "performance": PERFORMANCE_DEGRADED,
    "age": MODEL_AGED,
    "data": DATA_BROKEN,
}

PATIENCE = 15.0
"""Seconds in which an event must be confirmed; a healthy server takes about 20 ms, a frozen one for ever."""


class RetrainRequest(FrozenModel):
    """The payload of an event about a window: which champion it is about, why, and what was measured."""

    model: str
    version: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    cause: Cause
    reason: str
    evidence: dict[str, float | str] = Field(default_factory=dict)
    report: str | None = None
    event_id: str


class Happening(FrozenModel):
    """Something that happened to a model. The same id told twice is one event."""

    event: str
    model: str
    id: UUID
    occurred: AwareDatetime
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    follows: UUID | None = None

    @property
    def resource_id(self) -> str:
        """What the event is about, as triggers match it."""
        return resource_id(self.model)


def resource_id(model: str) -> str:
    """A model's Prefect resource."""
    return f"perennial.model.{model}"


def event_id(model: str, version: int, trained_at: datetime, window: Window, cause: Cause) -> UUID:
    """The id of the event about this champion, window and cause: the same after a crash, on any machine.

    `trained_at` tells the champion from one of the same number in an earlier life: a home may be wiped while the
    Prefect server remembers, and an id it has seen starts nothing.
    """
    return event_key(NAMES[cause], model, version, trained_at.isoformat(), window.start.isoformat())


def event_key(*parts: str | int) -> UUID:
    """A deterministic id from what the event is about."""
    return uuid5(NAMESPACE_URL, "perennial:" + "/".join(map(str, parts)))


def requested(request: RetrainRequest, occurred: datetime) -> Happening:
    """The event that carries a request (or, for broken data, an alert)."""
    payload = request.model_dump(mode="json")
    return Happening(
        event=NAMES[request.cause], model=request.model, id=UUID(request.event_id), occurred=occurred, payload=payload
    )


def send(happening: Happening, patience: float = PATIENCE) -> None:
    """Tell Prefect and wait until it has confirmed; raises PrefectUnreachable after `patience` seconds at the latest."""
    # A thread of its own: the caller may be inside an event loop. The context carries Prefect's settings there.
    with ThreadPoolExecutor(1, thread_name_prefix="event") as pool:
        pool.submit(copy_context().run, _send, happening, patience).result()


def _send(happening: Happening, patience: float) -> None:
    try:
        asyncio.run(asyncio.wait_for(_emit(happening), patience))
    # Prefect's client raises what its transport raises, a bare Exception included.
    except Exception as error:
        raise PrefectUnreachable(
            f"event {happening.event} about {happening.resource_id} was not confirmed by {_address()} "
            f"({type(error).__name__}: {error}): is the Prefect server up, and PREFECT_API_URL right?"
        ) from error


async def _emit(happening: Happening) -> None:
    from prefect.events.clients import get_events_client

    # One attempt, and a checkpoint after every event: what is not confirmed now is the caller's to repeat.
    async with get_events_client(reconnection_attempts=0, checkpoint_every=1) as client:
        await client.emit(_to_prefect(happening))


def _to_prefect(happening: Happening) -> Any:
    from prefect.events import Event, Resource

    name = f"{happening.model} (model)"
    return Event(
        id=happening.id,
        event=happening.event,
        occurred=happening.occurred,
        resource=Resource({"prefect.resource.id": happening.resource_id, "prefect.resource.name": name}),
        payload=happening.payload,
        follows=happening.follows,
    )


def _address() -> str:
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() or "the Prefect API (PREFECT_API_URL is not set)"
