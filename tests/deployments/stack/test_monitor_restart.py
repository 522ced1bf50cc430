"""The automations on a real server that has the deployments and no worker: for failed monitors, and for events of any model."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deployments import deploy
from deployments.prefect_client import FLEET, FlowRun, PrefectClient
from deployments.stack.prefect_server import server_environment
from monitoring.events import DRIFT_DETECTED, ModelEvent, send
from tests.support.prefect_server import pointed_at, prefect_server
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
SPECS = ["specs"]
BRAKE = 5
"""Seconds, as prefect.yaml has them for runs that were killed."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectClient]:
    """A server of its own: scheduled runs would be in the way of other tests."""
    with prefect_server(tmp_path) as url, PrefectClient(url, {}) as api:
        environ = {**server_environment(tmp_path, int(url.split(":")[2].split("/")[0])), "HOME": str(tmp_path)}
        deploy.ensure_pool(api, ROOT, environ)
        file = tmp_path / "prefect.yaml"
        daily = {"interval": 86_400, "slug": "one", "parameters": {"spec": "specs/one.toml"}}
        deploy.write(SPECS, file, schedules=[daily])
        assert not deploy.is_applied(file, api)
        deploy.apply(file, ROOT, environ)
        assert deploy.is_applied(file, api)
        (schedule,) = api.request("GET", f"/deployments/name/retrain/{FLEET}")["schedules"]
        assert (schedule["slug"], schedule["parameters"]) == ("one", {"spec": "specs/one.toml"})
        yield api


def end(api: PrefectClient, deployment: str, name: str, kind: str) -> str:
    """A run of a deployment that began and ended like this; its id."""
    run = api.start_run(api.deployment_id(deployment), {} if deployment.startswith("monitor") else {"spec": "a.toml"})
    for state in ({"type": "PENDING"}, {"type": "RUNNING"}, {"type": kind, "name": name}):
        api.request("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    return run


def restarted(api: PrefectClient, flow: str = "monitor") -> list[FlowRun]:
    """The runs that an automation has started."""
    return [run for run in api.deployment_runs(flow, FLEET) if run.automated]


def related(api: PrefectClient, run: str) -> list[dict[str, Any]]:
    """What the server says the end of a run is related to."""
    query = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}, "event": {"name": ["prefect.flow-run.Crashed"]}}}

    def ask() -> list[dict[str, Any]]:
        return list(api.request("POST", "/events/filter", query)["events"])

    found: list[dict[str, Any]] = wait_until(ask, 60, "the event to be in the feed")[0]["related"]
    return found


def test_a_monitor_that_was_killed_is_started_again_each_time_and_no_other_flow(server: PrefectClient) -> None:
    end(server, "monitor/fleet", "Cancelled", "CANCELLED")
    end(server, "retrain/fleet", "Crashed", "CRASHED")
    end(server, "train/fleet", "Failed", "FAILED")
    crashed = end(server, "monitor/fleet", "Crashed", "CRASHED")
    (first,) = wait_until(lambda: restarted(server), 60, "the automation to start a run")
    named = {(one["prefect.resource.role"], one.get("prefect.resource.name")) for one in related(server, crashed)}
    assert {("flow", "monitor"), ("deployment", FLEET)} <= named
    assert server.request("GET", f"/flow_runs/{first.id}")["parameters"] == {"specs": SPECS, "minutes": 5.5}
    about_another(server)
    for _ in range(2):  # the second failure is left to the schedule
        end(server, "monitor/fleet", "Failed", "FAILED")
    wait_until(lambda: datetime.now(UTC) > first.created + timedelta(seconds=BRAKE), BRAKE + 5, "the brake to end")
    end(server, "monitor/fleet", "Crashed", "CRASHED")
    wait_until(lambda: len(restarted(server)) == 3, 60, "a run for the failure, and one for the second crash")
    assert restarted(server, "train") == []


def about_another(api: PrefectClient) -> None:
    """Events of two models at once, one of which has a space in its path: each starts a run with its own spec."""
    asked = {"one": "specs/one.toml", "two": "my specs/two.toml"}
    for name, path in asked.items():
        with pointed_at(api.url):
            send(
                ModelEvent(
                    name=DRIFT_DETECTED, model=name, id=f"{uuid4()}", occurred=datetime.now(UTC), payload={"x": 1}, spec=path
                )
            )
    found = wait_until(lambda: runs if len(runs := restarted(api, "retrain")) == len(asked) else None, 60, "both retrainings")
    assert {run.spec for run in found} == set(asked.values())
    assert api.failed_actions(BEGAN) == ()
