"""The automation that starts a failed monitor again, on a real server that has the deployments of two models and no worker."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments import deploy
from deployments.prefect_client import FlowRun, PrefectClient, PrefectHistory
from deployments.stack.prefect_server import server_environment
from perennial.spec import load_spec
from tests.deployments.conftest import FLIGHTS
from tests.support.prefect_server import prefect_server
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def server(tmp_path: Path, spec_copy: Path) -> Iterator[PrefectClient]:
    """A server of its own: scheduled runs would be in the way of other tests."""
    with prefect_server(tmp_path) as url, PrefectClient(url, {}) as api:
        environ = {**server_environment(tmp_path, int(url.split(":")[2].split("/")[0])), "HOME": str(tmp_path)}
        deploy.ensure_pool(api, ROOT, environ)
        for path in (FLIGHTS, spec_copy):
            deploy.apply(deploy.write(load_spec(path), str(path), tmp_path / f"{path.stem}.yaml"), ROOT, environ)
        yield api


def end(api: PrefectClient, deployment: str, name: str, kind: str) -> str:
    """A run of a deployment that began and ended like this; its id."""
    run = api.start_run(api.deployment_id(deployment))
    for state in ({"type": "PENDING"}, {"type": "RUNNING"}, {"type": kind, "name": name}):
        api.request("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    return run


def restarted(api: PrefectClient, model: str, flow: str = "monitor") -> list[FlowRun]:
    """The runs that an automation has started."""
    return [run for run in PrefectHistory(api, model, BEGAN).runs(flow) if run.automated]


def related(api: PrefectClient, run: str) -> list[dict[str, Any]]:
    """What the server says the end of a run is related to."""
    query = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}, "event": {"name": ["prefect.flow-run.Crashed"]}}}

    def ask() -> list[dict[str, Any]]:
        return list(api.request("POST", "/events/filter", query)["events"])

    found: list[dict[str, Any]] = wait_until(ask, 60, "the event to be in the feed")[0]["related"]
    return found


def test_a_monitor_that_crashed_is_started_again_once_a_minute_and_no_other_model_is_disturbed(server: PrefectClient) -> None:
    end(server, "monitor/other", "Cancelled", "CANCELLED")
    end(server, "retrain/other", "Crashed", "CRASHED")
    end(server, "train/other", "Failed", "FAILED")
    crashed = end(server, "monitor/other", "Crashed", "CRASHED")
    (first,) = wait_until(lambda: restarted(server, "other"), 60, "the automation to start a run")
    assert restarted(server, "flights") == []
    named = {(one["prefect.resource.role"], one.get("prefect.resource.name")) for one in related(server, crashed)}
    assert {("flow", "monitor"), ("deployment", "other")} <= named
    end(server, "monitor/other", "Failed", "FAILED")
    end(server, "monitor/flights", "Failed", "FAILED")
    (second,) = wait_until(lambda: restarted(server, "flights"), 60, "the other model's automation to start a run")
    assert [run.id for run in restarted(server, "other")] == [first.id]
    assert server.request("GET", f"/flow_runs/{second.id}")["parameters"] == {"spec": str(FLIGHTS), "minutes": 5.5}
    assert [restarted(server, model, flow) for model in ("other", "flights") for flow in ("retrain", "train")] == [[]] * 4
