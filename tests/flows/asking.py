"""Questions to the Prefect API, as a person with the UI would ask them."""

from typing import Any

import httpx

from tests.support.waiting import wait_until

Found = list[dict[str, Any]]


def runs(api: str, flow: str) -> Found:
    """The runs of a flow, newest first."""
    return _post(api, "flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"})


def task_runs(api: str, run_id: str, name: str) -> Found:
    """The runs of a task within a flow run."""
    found = _post(api, "task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return [one for one in found if one["name"].rsplit("-", 1)[0] == name]


def artifacts(api: str, run_id: str) -> dict[str, dict[str, Any]]:
    """The artifacts of a run by key."""
    return {one["key"]: one for one in _post(api, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})}


def logged(api: str, run_id: str) -> list[str]:
    """The messages in a run's log; they arrive in batches."""
    return [line["message"] for line in _post(api, "logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}})]


def told(api: str, name: str, run_id: str, model: str = "small") -> dict[str, Any]:
    """The event of this name that a run sent about a model, once it can be read: the server stores them in batches."""

    def ask() -> Found:
        wanted = {"event": {"name": [name]}, "resource": {"id": [f"perennial.model.{model}"]}}
        answer = httpx.post(f"{api}/events/filter", json={"filter": wanted, "limit": 50}, timeout=10).raise_for_status()
        return [one for one in answer.json()["events"] if one["payload"].get("flow_run") == run_id]

    wait_until(lambda: bool(ask()), 60, f"a {name} event of run {run_id}")
    return ask()[0]


def _post(api: str, path: str, body: dict[str, Any]) -> Found:
    found: Found = httpx.post(f"{api}/{path}", json=body, timeout=10).raise_for_status().json()
    return found
