"""The history of one model, read from a real Prefect API: runs of one model's deployments, and the events on its resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from deployments.prefect_client import FLEET, PrefectClient, PrefectHistory
from monitoring.events import DRIFT_DETECTED, MODEL_PROMOTED, ModelEvent, send
from perennial.errors import PrefectUnreachable
from tests.support.waiting import wait_until

BEFORE = timedelta(minutes=1)


def a_deployment(api: str, flow: str) -> None:
    """`flow/fleet` without a worker: its runs stay scheduled."""
    flow_id = httpx.post(f"{api}/flows/", json={"name": flow}).raise_for_status().json()["id"]
    body = {"name": FLEET, "flow_id": flow_id, "enforce_parameter_schema": False}
    httpx.post(f"{api}/deployments/", json=body).raise_for_status()


@contextmanager
def a_history(url: str, model: str, since: datetime) -> Iterator[PrefectHistory]:
    with PrefectClient(url, {}) as api:
        yield PrefectHistory(api, model, since, f"{model}.toml")


@pytest.fixture
def model() -> str:
    """A name that no other test used: the server keeps everything for the session."""
    return f"toy-{uuid4().hex[:8]}"


def test_a_run_is_started_with_the_spec_and_our_parameters(prefect_api: str, model: str) -> None:
    a_deployment(prefect_api, "train")
    with a_history(prefect_api, model, datetime.now(UTC) - BEFORE) as history:
        run = history.client.run(history.start("train", {"until": "2013-03-01"}))
    assert (run.state, run.terminal, run.automated, run.started, run.event_id) == ("SCHEDULED", False, False, None, None)
    raw = httpx.get(f"{prefect_api}/flow_runs/{run.id}").json()
    assert raw["parameters"] == {"spec": f"{model}.toml", "until": "2013-03-01"}


def test_only_runs_of_the_model_and_flow_since_the_moment_are_seen(prefect_api: str, model: str) -> None:
    a_deployment(prefect_api, "retrain")
    with (
        a_history(prefect_api, model, datetime.now(UTC) - BEFORE) as history,
        a_history(prefect_api, model + "x", datetime.now(UTC)) as other,
    ):
        ran = finish(prefect_api, history.start("retrain", {"event": {"event_id": "e-1"}}))
        finish(prefect_api, other.start("retrain", {"event": {"event_id": "e-2"}}))
        assert [run.id for run in history.runs("retrain")] == [ran]
        assert history.run_for("e-1") == history.runs("retrain")[0]
        assert history.run_for("e-3") is None
        assert history.runs("train") == []
    with a_history(prefect_api, model, datetime.now(UTC) + BEFORE) as later:
        assert later.runs("retrain") == []


def test_events_on_the_models_resource_are_read_back_in_order(prefect_api: str, model: str) -> None:
    now = datetime.now(UTC)
    told = [
        ModelEvent(
            name=name, model=model, id=f"{uuid4()}", occurred=now - timedelta(seconds=10 - order), payload={"version": order}
        )
        for order, name in enumerate((DRIFT_DETECTED, MODEL_PROMOTED))
    ]
    for event in (*reversed(told), ModelEvent(name=DRIFT_DETECTED, model=model + "x", id=f"{uuid4()}", occurred=now)):
        send(event)
    with a_history(prefect_api, model, now - BEFORE) as history:
        seen = wait_until(lambda: found if len(found := history.events()) == len(told) else None, 30, "the events to be stored")
    assert [(one.id, one.name, one.payload) for one in seen] == [(one.id, one.name, one.payload) for one in told]


def test_more_events_than_a_page_are_all_read(prefect_api: str, model: str) -> None:
    now = datetime.now(UTC)
    events = [
        {
            "id": str(uuid4()),
            "event": DRIFT_DETECTED,
            "occurred": (now - timedelta(milliseconds=number)).isoformat(),
            "resource": {"prefect.resource.id": f"perennial.model.{model}"},
            "payload": {},
        }
        for number in range(70)
    ]
    httpx.post(f"{prefect_api}/events", json=events).raise_for_status()
    with a_history(prefect_api, model, now - BEFORE) as history:
        wait_until(lambda: len(history.events()) == len(events), 30, "70 events to be stored")


def test_an_api_that_is_not_there_is_named() -> None:
    with (
        a_history("http://127.0.0.1:9/api", "toy", datetime.now(UTC)) as history,
        pytest.raises(PrefectUnreachable, match=r"127\.0\.0\.1:9"),
    ):
        history.runs("train")


def finish(api: str, run_id: str) -> str:
    """Complete a run without running it."""
    body = {"state": {"type": "COMPLETED"}, "force": True}
    httpx.post(f"{api}/flow_runs/{run_id}/set_state", json=body).raise_for_status()
    return run_id
