"""What the stack asks of a Prefect API: is it there, who works, which runs live. Plain HTTP: importing Prefect takes a second."""

import base64
import time
from collections.abc import Mapping
from datetime import datetime
from threading import Event
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import AwareDatetime

from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable

PAGE = 200
"""Rows in one answer; the API's own limit."""

ANSWER_TIMEOUT = 30.0
"""Seconds; a busy SQLite server may take several."""


BUSY_PATIENCE, BUSY_PAUSE = 30.0, 0.5
"""Seconds for which, and between which, a server that is too busy is asked again."""


class FlowRun(FrozenModel):
    """One flow run, as far as the stack cares."""

    id: str
    name: str
    deployment_id: str | None
    state: str | None
    auto_scheduled: bool
    expected_start: AwareDatetime | None


class Happened(FrozenModel):
    """One event of the feed."""

    id: str
    name: str
    occurred: AwareDatetime
    payload: dict[str, Any]


class PrefectApi:
    """A client of one Prefect API; every call raises PrefectUnreachable naming the address."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(headers=_authorization(environ), timeout=ANSWER_TIMEOUT, trust_env=not _is_local(url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Whether the API answers now."""
        try:
            return self._http.get(f"{self.url}/health", timeout=2.0).is_success
        except httpx.HTTPError:
            return False

    def has_pool(self, pool: str) -> bool:
        """Whether the work pool exists."""
        return self.ask("GET", f"/work_pools/{pool}", missing=True) is not None

    def online_workers(self, pool: str, since: datetime) -> tuple[str, ...]:
        """Names of the pool's workers that have given a sign of life since a moment."""
        rows = self.ask("POST", f"/work_pools/{pool}/workers/filter", {"limit": PAGE}, missing=True) or []
        alive = (row for row in rows if row["status"] == "ONLINE" and row["last_heartbeat_time"])
        return tuple(row["name"] for row in alive if datetime.fromisoformat(row["last_heartbeat_time"]) >= since)

    def deployment_id(self, name: str) -> str:
        """The id of `flow/deployment`."""
        return str(self.ask("GET", f"/deployments/name/{name}")["id"])

    def runs(self, pool: str, states: tuple[str, ...]) -> tuple[FlowRun, ...]:
        """Runs of a pool in states of these types, those expected first first."""
        wanted = {
            "work_pools": {"name": {"any_": [pool]}},
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": PAGE,
        }
        return tuple(_read_run(row) for row in self.ask("POST", "/flow_runs/filter", wanted))

    def start_run(self, deployment_id: str, parameters: Mapping[str, object] | None = None) -> str:
        """Ask for one run of a deployment now; returns its id."""
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}}
        return str(self.ask("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def end_run(self, run: FlowRun, state: str, message: str) -> None:
        """Put a run whose process is known to be gone into a final state."""
        body = {"state": {"type": state, "message": message}, "force": True}
        self.ask("POST", f"/flow_runs/{run.id}/set_state", body)

    def events(self, name: str, since: datetime) -> tuple[Happened, ...]:
        """Events of one name since a moment, the newest first, at most a page."""
        wanted = {"event": {"name": [name]}, "occurred": {"since": since.isoformat()}, "order": "DESC"}
        rows = self.ask("POST", "/events/filter", {"filter": wanted, "limit": 50})["events"]
        return tuple(Happened(id=row["id"], name=row["event"], occurred=row["occurred"], payload=row["payload"]) for row in rows)

    def ask(self, method: str, path: str, body: object = None, *, missing: bool = False) -> Any:
        """One request by its path below the API, decoded; with `missing`, None where there is no such thing."""
        try:
            answer = self._answer(method, path, body)
            if missing and answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            raise PrefectUnreachable(
                f"{self.url} refuses {method} {path}: {error.response.status_code} {_reason(error)}"
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            fix = "run `perennial up SPEC`, or check PREFECT_API_URL"
            raise PrefectUnreachable(f"the Prefect API at {self.url} does not answer ({error}): {fix}") from error

    def _answer(self, method: str, path: str, body: object) -> httpx.Response:
        """A locked SQLite file is a 503 and nothing was done: ask again, as Prefect's own client does."""
        deadline, pause = time.monotonic() + BUSY_PATIENCE, Event()
        while True:
            answer = self._http.request(method, self.url + path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
            pause.wait(BUSY_PAUSE)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _is_local(url: str) -> bool:
    """Loopback is never asked through the proxy of the environment."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _read_run(row: dict[str, Any]) -> FlowRun:
    return FlowRun(
        id=row["id"],
        name=row["name"],
        deployment_id=row["deployment_id"],
        state=row["state_type"],
        auto_scheduled=row["auto_scheduled"],
        expected_start=row["expected_start_time"],
    )


def _reason(error: httpx.HTTPStatusError) -> str:
    return error.response.text[:300]
