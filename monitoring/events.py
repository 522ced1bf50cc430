"""Events: what happened to a model, sent to Prefect and confirmed by it. The only file that sends Prefect events.

`emit_event` of Prefect returns normally when no server listens; `send` here raises. It runs the client in a thread of its
own, so the caller may be inside an event loop, and takes about 20 ms against a healthy server.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import AwareDatetime, Field

from monitoring.policy import Cause, RetrainRequest
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable

DRIFT_DETECTED = "perennial.drift.detected"
PERFORMANCE_DEGRADED = "perennial.performance.degraded"
MODEL_AGED = "perennial.model.aged"
CHALLENGER_DUE = "perennial.challenger.due"
PROMOTION_DUE = "perennial.promotion.due"
DATA_BROKEN = "perennial.data.broken"
LABELS_UNKNOWN = "perennial.labels.unknown"
RETRAIN_STARTED = "perennial.retrain.started"
RETRAIN_DECLINED = "perennial.retrain.declined"
RETRAIN_FAILED = "perennial.retrain.failed"
MODEL_PROMOTED = "perennial.model.promoted"
MODEL_HELD = "perennial.model.held"
MODEL_REJECTED = "perennial.model.rejected"
MODEL_ROLLED_BACK = "perennial.model.rolled-back"

EVENT_NAMES: Mapping[Cause, str] = {
    "drift": DRIFT_DETECTED,
    "performance": PERFORMANCE_DEGRADED,
    "challenger": CHALLENGER_DUE,
    "promotion": PROMOTION_DUE,
    "age": MODEL_AGED,
    "rollback": MODEL_ROLLED_BACK,
    "data": DATA_BROKEN,
}

SPEC_LABEL = "perennial.spec"
"""Label of an event's resource with the path of the model's spec."""

LONGEST_NAME = 200
"""Characters of a resource's name: as many as a line of Prefect's feed has room for."""

CONFIRMATION_TIMEOUT = timedelta(seconds=15)
"""In which an event must be confirmed; a healthy server takes about 20 ms, a frozen one for ever."""


class ModelEvent(FrozenModel):
    """Something that happened to a model, as it is sent to Prefect. The same id sent twice is one event."""

    name: str
    model: str
    id: str
    occurred: AwareDatetime
    payload: dict[str, Any] = Field(default_factory=dict)
    follows: str | None = None
    spec: str | None = Field(None, description="path of the model's spec as flows open it, for the flow that the event starts")


def resource_id(model: str) -> str:
    """A model's Prefect resource, as triggers match it."""
    return f"perennial.model.{model}"


def resource_name(event: ModelEvent) -> str:
    """What Prefect's pages call the model in this event: with the version and the reason, which they show nowhere else."""
    version, reason = event.payload.get("version"), str(event.payload.get("reason", ""))
    named = event.model if version is None else f"{event.model} version {version}"
    return f"{named}: {reason}"[:LONGEST_NAME] if reason else named


def resource_labels(event: ModelEvent) -> dict[str, str]:
    """What an event says of its model: the automations of prefect.yaml start a flow with the spec that they find here."""
    labels = {"prefect.resource.id": resource_id(event.model), "prefect.resource.name": resource_name(event)}
    return labels | ({SPEC_LABEL: event.spec} if event.spec is not None else {})


def window_event_id(model: str, version: int, trained_at: datetime, window: Window, cause: Cause) -> str:
    """The id of the event about this champion, window and cause: the same after a crash, on any machine.

    `trained_at` tells the champion from one of the same number in an earlier life: a home may be wiped while the
    Prefect server remembers, and an id it has seen starts nothing.
    """
    return deterministic_id(EVENT_NAMES[cause], model, version, trained_at.isoformat(), window.start.isoformat())


def clock_event_id(model: str, planned: datetime) -> str:
    """The id of a training by the clock, by the moment that it was planned for. No event has it: the schedule is Prefect's."""
    return deterministic_id("perennial.retrain.planned", model, planned.astimezone(UTC).isoformat())


def deterministic_id(*parts: str | int) -> str:
    """A UUID made from what the event is about."""
    return str(uuid5(NAMESPACE_URL, "perennial:" + "/".join(map(str, parts))))


def request_event(request: RetrainRequest, occurred: datetime, spec: str | None = None, again: int = 0) -> ModelEvent:
    """The event that carries a request (or, for broken data, an alert); `spec` is the path with which its flow is started.

    Sent `again` for the n-th time it has an id of its own, for a living server ignores one that it has seen; the request stays.
    """
    return ModelEvent(
        name=EVENT_NAMES[request.cause],
        model=request.model,
        id=deterministic_id(request.event_id, again) if again else request.event_id,
        occurred=occurred,
        payload=request.model_dump(mode="json"),
        spec=spec,
    )


def send(event: ModelEvent, timeout: timedelta = CONFIRMATION_TIMEOUT) -> None:
    """Send to Prefect and wait for its confirmation; raises PrefectUnreachable after `timeout` at the latest."""
    # The context carries Prefect's settings into the thread.
    with ThreadPoolExecutor(1, thread_name_prefix="event") as pool:
        pool.submit(copy_context().run, _send, event, timeout).result()


def _send(event: ModelEvent, timeout: timedelta) -> None:
    try:
        asyncio.run(asyncio.wait_for(_emit(event), timeout.total_seconds()))
    # Prefect's client raises what its transport raises, a bare Exception included.
    except Exception as error:
        raise PrefectUnreachable(
            f"event {event.name} about {resource_id(event.model)} was not confirmed by {_address()} "
            f"({type(error).__name__}: {error}): is the Prefect server up, and PREFECT_API_URL right?"
        ) from error


async def _emit(event: ModelEvent) -> None:
    from prefect.events import Event, Resource
    from prefect.events.clients import get_events_client

    # One attempt, and a checkpoint after every event: what is not confirmed now is the caller's to repeat.
    async with get_events_client(reconnection_attempts=0, checkpoint_every=1) as client:
        said = event.model_dump(exclude={"name", "model", "spec"})
        await client.emit(Event(event=event.name, resource=Resource(resource_labels(event)), **said))


def _address() -> str:
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() or "the Prefect API (PREFECT_API_URL is not set)"
