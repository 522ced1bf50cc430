"""The witness: what the Prefect API says happened to one model; it only reads, and never believes the driver."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
from pydantic import AwareDatetime, Field

from deployments.prefect_client.automation_failures import failed_actions
from deployments.prefect_client.client import PAGE, PrefectApi
from monitoring.events import resource_id
from perennial.base import FrozenModel

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types in which a flow run stays."""


class Run(FrozenModel):
    """One flow run of a deployment."""

    id: str
    name: str
    created: AwareDatetime
    started: AwareDatetime | None
    ended: AwareDatetime | None
    state: str = Field(description="state type, such as COMPLETED")
    message: str
    automated: bool = Field(description="created by an automation")
    event_id: str | None = Field(description="the event in its parameters, if any")

    @property
    def terminal(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in TERMINAL


class Seen(FrozenModel):
    """One event on a model's resource."""

    id: str
    name: str
    occurred: AwareDatetime
    payload: dict[str, Any]


class Witness:
    """Reads the runs and events of one model since a moment; raises PrefectUnreachable."""

    def __init__(self, api: PrefectApi, model: str, since: datetime) -> None:
        self._api, self._model, self._since = api, model, since

    def runs(self, flow: str) -> list[Run]:
        """Runs of `{flow}/{model}` created since the moment, oldest first; scheduled ones that have not begun are left out."""
        runs = [_to_run(raw) for raw in self._pages(self._filter(flow))]
        return sorted((run for run in runs if run.state != "SCHEDULED" or run.automated), key=lambda run: run.created)

    def run_for(self, event_id: str, flow: str = "retrain") -> Run | None:
        """The run that an event started; the newest, should there be several."""
        return next((run for run in reversed(self.runs(flow)) if run.event_id == event_id), None)

    def events(self, prefix: str = "perennial.") -> list[Seen]:
        """Events on the model's resource that occurred since the moment, oldest first."""
        resource = {"id": [resource_id(self._model)]}
        query = {"event": {"prefix": [prefix]}, "resource": resource, "occurred": {"since": self._since.isoformat()}}
        page = self._api.ask("POST", "/events/filter", {"filter": query, "limit": 50})
        raw = list(page["events"])
        while page["next_page"]:
            # The link bears the server's own idea of its address; only its token is wanted.
            token = httpx.URL(page["next_page"]).params["page-token"]
            page = self._api.ask("GET", f"/events/filter/next?page-token={token}")
            raw += page["events"]
        return sorted((_to_seen(one) for one in raw), key=lambda seen: seen.occurred)

    def failures(self) -> list[str]:
        """Automations that fired since the moment and did not do what they were to do; nothing else says so."""
        return [f"automation {failed.action} failed: {failed.reason}" for failed in failed_actions(self._api, self._since)]

    def start(self, flow: str, parameters: dict[str, Any]) -> str:
        """Ask a worker to run `{flow}/{model}` now, with these parameters over the deployment's own; returns the run's id."""
        return self._api.start_run(self._api.deployment_id(f"{flow}/{self._model}"), parameters)

    def run(self, run_id: str) -> Run:
        """One run by its id."""
        return _to_run(self._api.ask("GET", f"/flow_runs/{run_id}"))

    def _filter(self, flow: str) -> dict[str, Any]:
        return {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [self._model]}},
            "sort": "START_TIME_ASC",
        }

    def _pages(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := self._api.ask("POST", "/flow_runs/filter", {**query, "limit": PAGE, "offset": offset}):
            yield from (raw for raw in page if datetime.fromisoformat(raw["created"]) >= self._since)
            offset += PAGE


def _to_run(raw: dict[str, Any]) -> Run:
    event = raw["parameters"].get("event")
    return Run(
        id=raw["id"],
        name=raw["name"],
        created=raw["created"],
        started=raw["start_time"],
        ended=raw["end_time"],
        state=raw["state_type"] or "PENDING",
        message=(raw["state"] or {}).get("message") or "",
        automated=(raw["created_by"] or {}).get("type") == "AUTOMATION",
        event_id=event.get("event_id") if isinstance(event, dict) else None,
    )


def _to_seen(raw: dict[str, Any]) -> Seen:
    return Seen(id=raw["id"], name=raw["event"], occurred=raw["occurred"], payload=raw["payload"])
