"""A client of one Prefect API: pools, workers, flow runs and events, over plain HTTP with one kept-alive connection.

It is used instead of Prefect's own client because importing Prefect takes a second, and `perennial status` would wait for it. A
server that is too busy (503: its SQLite file is locked and nothing was done) is asked again for up to half a minute. Any other
failure is a PrefectUnreachable that names the address.
"""

import base64
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from threading import Event
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import AwareDatetime, Field

from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable

PAGE = 200
"""Runs or workers in one answer; the API's own limit."""

EVENT_PAGE = 50
"""Events in one answer; the API's own limit."""

REQUEST_TIMEOUT = timedelta(seconds=30)
"""A busy SQLite server may take several seconds."""

HEALTH_TIMEOUT = timedelta(seconds=2)
"""A server that is up answers its health check in milliseconds."""

BUSY_TIMEOUT, BUSY_INTERVAL = timedelta(seconds=30), timedelta(seconds=0.5)
"""For how long, and how often, a server that is too busy is asked again."""

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types in which a flow run stays."""


class FlowRun(FrozenModel):
    """One flow run of a deployment."""

    id: str
    name: str
    deployment_id: str | None
    created: AwareDatetime
    expected_start: AwareDatetime | None
    started: AwareDatetime | None
    ended: AwareDatetime | None
    state: str = Field(description="state type, such as COMPLETED")
    message: str
    auto_scheduled: bool = Field(description="created by the deployment's schedule")
    automated: bool = Field(description="created by an automation")
    event_id: str | None = Field(description="the event in its parameters, if any")

    @property
    def terminal(self) -> bool:
        """Whether its state can no longer change."""
        return self.state in TERMINAL


class PrefectEvent(FrozenModel):
    """One event of the feed."""

    id: str
    name: str
    occurred: AwareDatetime
    payload: dict[str, Any]


class PrefectClient:
    """A client of one Prefect API; every call but `healthy` raises PrefectUnreachable."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        timeout, proxied = REQUEST_TIMEOUT.total_seconds(), not _is_loopback(url)
        self._http = httpx.Client(headers=_authorization(environ), timeout=timeout, trust_env=proxied)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Whether the API answers now."""
        try:
            return self._http.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT.total_seconds()).is_success
        except httpx.HTTPError:
            return False

    def has_pool(self, pool: str) -> bool:
        """Whether the work pool exists."""
        return self.request("GET", f"/work_pools/{pool}", allow_missing=True) is not None

    def online_workers(self, pool: str, since: datetime) -> tuple[str, ...]:
        """Names of the pool's workers whose last heartbeat is not older than `since`."""
        rows = self.request("POST", f"/work_pools/{pool}/workers/filter", {"limit": PAGE}, allow_missing=True) or []
        online = (row for row in rows if row["status"] == "ONLINE" and row["last_heartbeat_time"])
        return tuple(row["name"] for row in online if datetime.fromisoformat(row["last_heartbeat_time"]) >= since)

    def deployment_id(self, name: str) -> str:
        """The id of `flow/deployment`."""
        return str(self.request("GET", f"/deployments/name/{name}")["id"])

    def run(self, run_id: str) -> FlowRun:
        """One run by its id."""
        return _read_run(self.request("GET", f"/flow_runs/{run_id}"))

    def pool_runs(self, pool: str, states: tuple[str, ...]) -> tuple[FlowRun, ...]:
        """Runs of a pool in states of these types, by expected start."""
        return self._runs({"work_pools": {"name": {"any_": [pool]}}, "flow_runs": {"state": {"type": {"any_": list(states)}}}})

    def deployment_runs(self, flow: str, deployment: str) -> tuple[FlowRun, ...]:
        """All runs of `flow/deployment`, by expected start."""
        return self._runs({"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}})

    def start_run(self, deployment_id: str, parameters: Mapping[str, object] | None = None) -> str:
        """Ask for one run of a deployment now; returns its id."""
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}}
        return str(self.request("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def end_run(self, run: FlowRun, state: str, message: str) -> None:
        """Put a run whose process is known to be gone into a final state."""
        body = {"state": {"type": state, "message": message}, "force": True}
        self.request("POST", f"/flow_runs/{run.id}/set_state", body)

    def events(self, prefix: str, since: datetime, resource: str | None = None) -> tuple[PrefectEvent, ...]:
        """Events since a moment whose name begins with `prefix`, of one resource or of any, oldest first."""
        query = {"event": {"prefix": [prefix]}, "occurred": {"since": since.isoformat()}}
        if resource is not None:
            query["resource"] = {"id": [resource]}
        return tuple(sorted(map(_read_event, self._event_rows(query)), key=lambda event: event.occurred))

    def request(self, method: str, path: str, body: object = None, *, allow_missing: bool = False) -> Any:
        """One request by its path below the API, decoded; with `allow_missing`, None for a 404."""
        try:
            response = self._send(method, path, body)
            if allow_missing and response.status_code == httpx.codes.NOT_FOUND:
                return None
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            refused = f"{error.response.status_code} {error.response.text[:300]}"
            raise PrefectUnreachable(f"{self.url} refuses {method} {path}: {refused}") from error
        except (httpx.HTTPError, ValueError) as error:
            fix = "run `perennial up SPEC`, or check PREFECT_API_URL"
            raise PrefectUnreachable(f"the Prefect API at {self.url} does not answer ({error}): {fix}") from error

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        deadline, pause = time.monotonic() + BUSY_TIMEOUT.total_seconds(), Event()
        while True:
            response = self._http.request(method, self.url + path, json=body)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return response
            pause.wait(BUSY_INTERVAL.total_seconds())

    def _runs(self, query: dict[str, Any]) -> tuple[FlowRun, ...]:
        found: list[FlowRun] = []
        while True:
            page = {**query, "sort": "EXPECTED_START_TIME_ASC", "limit": PAGE, "offset": len(found)}
            rows = self.request("POST", "/flow_runs/filter", page)
            found += map(_read_run, rows)
            if len(rows) < PAGE:
                return tuple(found)

    def _event_rows(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        page = self.request("POST", "/events/filter", {"filter": query, "limit": EVENT_PAGE})
        yield from page["events"]
        while page["next_page"]:
            # The link bears the server's own idea of its address; only its token is wanted.
            token = httpx.URL(page["next_page"]).params["page-token"]
            page = self.request("GET", f"/events/filter/next?page-token={token}")
            yield from page["events"]


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _is_loopback(url: str) -> bool:
    """Loopback is not reached through the proxy of the environment."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _read_run(row: dict[str, Any]) -> FlowRun:
    event = row["parameters"].get("event")
    return FlowRun(
        id=row["id"],
        name=row["name"],
        deployment_id=row["deployment_id"],
        created=row["created"],
        expected_start=row["expected_start_time"],
        started=row["start_time"],
        ended=row["end_time"],
        state=row["state_type"] or "PENDING",
        message=(row["state"] or {}).get("message") or "",
        auto_scheduled=row["auto_scheduled"],
        automated=(row["created_by"] or {}).get("type") == "AUTOMATION",
        event_id=event.get("event_id") if isinstance(event, dict) else None,
    )


def _read_event(row: dict[str, Any]) -> PrefectEvent:
    return PrefectEvent(id=row["id"], name=row["event"], occurred=row["occurred"], payload=row["payload"])
