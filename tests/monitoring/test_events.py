"""Events: confirmed by a real server, or an error in bounded time; the same id sent twice is one event."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from monitoring.events import (
    DRIFT_DETECTED,
    EVENT_NAMES,
    LONGEST_NAME,
    ModelEvent,
    deterministic_id,
    request_event,
    resource_labels,
    resource_name,
    send,
    window_event_id,
)
from monitoring.policy import RetrainRequest
from monitoring.window import window_at
from perennial.errors import PrefectUnreachable
from tests.monitoring.requests import WINDOW, request_for
from tests.support.models import START
from tests.support.prefect_server import pointed_at
from tests.support.waiting import wait_until


def events_of(api: str, model: str) -> list[dict[str, object]]:
    query = {"filter": {"event": {"prefix": ["perennial."]}, "resource": {"id": [f"perennial.model.{model}"]}}, "limit": 50}
    return list(httpx.post(f"{api}/events/filter", json=query, timeout=10).json()["events"])


def test_an_event_arrives_with_its_payload_and_only_once(prefect_api: str) -> None:
    sent = request_event(request_for("sent"), datetime.now(UTC))
    send(sent)
    send(sent)
    send(ModelEvent(name="perennial.model.promoted", model="sent", id=deterministic_id("after"), occurred=datetime.now(UTC)))
    found = wait_until(lambda: two if len(two := events_of(prefect_api, "sent")) > 1 else [], 20, "both events")
    (event,) = (one for one in found if one["event"] == DRIFT_DETECTED)
    assert event["id"] == sent.id
    assert RetrainRequest.model_validate(event["payload"]) == request_for("sent")


def test_it_can_be_sent_from_inside_an_event_loop(prefect_api: str) -> None:
    async def inside() -> None:
        send(request_event(request_for("inside"), datetime.now(UTC)))

    asyncio.run(inside())
    wait_until(lambda: events_of(prefect_api, "inside"), 20, "the event")


def test_no_server_is_an_error_that_names_it() -> None:
    with pointed_at("http://127.0.0.1:9/api"), pytest.raises(PrefectUnreachable, match=r"drift.detected .*127\.0\.0\.1:9"):
        send(request_event(request_for("nobody"), datetime.now(UTC)))


@pytest.fixture
def frozen_server() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


def test_a_server_that_is_frozen_is_given_up(frozen_server: str) -> None:
    with pointed_at(frozen_server), pytest.raises(PrefectUnreachable, match="was not confirmed"):
        send(request_event(request_for("frozen"), datetime.now(UTC)), timeout=timedelta(seconds=0.3))


def test_ids_tell_windows_versions_lives_and_causes_apart() -> None:
    later = window_at(WINDOW.end, timedelta(days=7))
    ids = {
        window_event_id(model, version, trained_at, window, cause)
        for model in ("a", "b")
        for version in (1, 2)
        for trained_at in (START, WINDOW.end)
        for window in (WINDOW, later)
        for cause in EVENT_NAMES
    }
    assert len(ids) == 16 * len(EVENT_NAMES)
    assert window_event_id("a", 1, START, WINDOW, "drift") == window_event_id("a", 1, START, WINDOW, "drift")


def test_the_feed_of_events_shows_version_and_reason_in_the_name_of_the_resource() -> None:
    asked = request_event(request_for("small"), START)
    assert resource_name(asked) == "small version 3: drift 0.2 is over its bound 0.1"
    assert resource_name(asked.model_copy(update={"payload": {}})) == "small"
    long = asked.model_copy(update={"payload": {"version": 3, "reason": "x" * 999}})
    assert len(resource_name(long)) == LONGEST_NAME
    assert resource_labels(long)["prefect.resource.id"] == "perennial.model.small"
