"""The witness: what the Prefect API says happened to one model; it only reads, and never believes the driver."""

from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx
from prefect.settings import get_current_settings
from pydantic import AwareDatetime, Field

from perennial.errors import PrefectUnreachable
from perennial.values import Value

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types in which a flow run stays."""

PAGE = 200
"""Flow runs per request; the API's own limit."""


class Run(Value):
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


class Seen(Value):
    """One event on a model's resource."""

    id: str
    name: str
    occurred: AwareDatetime
    payload: dict[str, Any]


class Witness:
    """Reads the runs and events of one model since a moment; raises PrefectUnreachable."""

    def __init__(self, api_url: str, model: str, since: datetime) -> None:
        key = get_current_settings().api.key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._http = httpx.Client(base_url=api_url.rstrip("/"), headers=headers, timeout=30.0)
        self._url, self._model, self._since = api_url, model, since

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def runs(self, flow: str) -> list[Run]:
        """Runs of `{flow}/{model}` created since the moment, oldest first; scheduled ones that have not begun are left out."""
        runs = [_to_run(raw) for raw in self._pages(self._filter(flow))]
        return sorted((run for run in runs if run.state != "SCHEDULED" or run.automated), key=lambda run: run.created)

    def run_for(self, event_id: str, flow: str = "retrain") -> Run | None:
        """The run that an event started; the newest, should there be several."""
        return next((run for run in reversed(self.runs(flow)) if run.event_id == event_id), None)

    def events(self, prefix: str = "perennial.") -> list[Seen]:
        """Events on the model's resource that occurred since the moment, oldest first."""
        resource = {"id": [f"perennial.model.{self._model}"]}
        query = {"event": {"prefix": [prefix]}, "resource": resource, "occurred": {"since": self._since.isoformat()}}
        page = self._ask("POST", "/events/filter", {"filter": query, "limit": 50})
        raw = list(page["events"])
        while page["next_page"]:
            # The link bears the server's own idea of its address; only its token is wanted.
            token = httpx.URL(page["next_page"]).params["page-token"]
            page = self._ask("GET", f"/events/filter/next?page-token={token}")
            raw += page["events"]
        return sorted((_to_seen(one) for one in raw), key=lambda seen: seen.occurred)

    def start(self, flow: str, parameters: dict[str, Any]) -> str:
        """Ask a worker to run `{flow}/{model}` now; returns the run's id."""
        deployment = self._ask("GET", f"/deployments/name/{flow}/{self._model}")
        body = {"parameters": {**deployment["parameters"], **parameters}, "state": {"type": "SCHEDULED", "name": "Scheduled"}}
        return str(self._ask("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def run(self, run_id: str) -> Run:
        """One run by its id."""
        return _to_run(self._ask("GET", f"/flow_runs/{run_id}"))

    def _filter(self, flow: str) -> dict[str, Any]:
        return {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [self._model]}},
            "sort": "START_TIME_ASC",
        }

    def _pages(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := self._ask("POST", "/flow_runs/filter", {**query, "limit": PAGE, "offset": offset}):
            yield from (raw for raw in page if datetime.fromisoformat(raw["created"]) >= self._since)
            offset += PAGE

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            reply = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise PrefectUnreachable(f"the Prefect API at {self._url} does not answer ({error!r}): is the server up?") from error
        if not reply.is_success:
            raise PrefectUnreachable(f"{method} {path} at {self._url} answered {reply.status_code}: {reply.text[:300]}")
        return reply.json()


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
