"""Prefect's API over plain HTTP with one kept-alive connection: what the monitor and the command line both ask of it.

It is used instead of Prefect's own client because importing Prefect takes a second, and `perennial status` would wait for it. A
server that is too busy (503: its SQLite file is locked and nothing was done) is asked again for up to half a minute. Any other
failure is a PrefectUnreachable that names the address.
"""

import base64
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from threading import Event
from typing import Annotated, Any

import httpx
from pydantic import AliasPath, AwareDatetime, BeforeValidator, ConfigDict, Field

from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable
from perennial.settings import LOOPBACK

FLEET = "fleet"  # name of every deployment: there is one of each flow for all models, as prefect.yaml declares them

PAGE, EVENT_PAGE = 200, 50  # runs or workers, and events, in one answer; the API's own limits

REQUEST_TIMEOUT, CONNECT_TIMEOUT, HEALTH_TIMEOUT = timedelta(seconds=30), timedelta(seconds=5), timedelta(seconds=2)
"""A busy SQLite server may take several seconds; one that is up answers its health check in milliseconds."""

BUSY_TIMEOUT, BUSY_INTERVAL = timedelta(seconds=30), timedelta(seconds=0.5)  # in which, and how often, it is asked again
FIX = "run `perennial up SPEC`, or check PREFECT_API_URL"  # for an API that does not answer, unless the caller knows better
CERTIFICATES = "PREFECT_API_SSL_CERT_FILE"  # Prefect's setting: a file of the authorities that an API's certificate may be of
TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})  # state types in which a flow run stays
STARTED = ("PENDING", "RUNNING", "CANCELLING")  # state types of runs that have, or had, a process

ACTION_FAILED = "prefect.automation.action.failed"
"""The event that a Prefect server sends, as the only sign, when an automation fired and its action did not happen."""


class FlowRun(FrozenModel):
    """One flow run of a deployment, read from the API's JSON by the paths of its fields, or built by their names."""

    model_config = ConfigDict(extra="ignore", validate_by_name=True, validate_by_alias=True)

    id: str
    name: str
    deployment_id: str | None
    created: AwareDatetime
    expected_start: AwareDatetime | None = Field(validation_alias="expected_start_time")
    started: AwareDatetime | None = Field(validation_alias="start_time")
    ended: AwareDatetime | None = Field(validation_alias="end_time")
    state_at: AwareDatetime | None = Field(None, validation_alias=AliasPath("state", "timestamp"), description="since when")
    state: str = Field("PENDING", validation_alias=AliasPath("state", "type"), description="state type, such as COMPLETED")
    message: Annotated[str, BeforeValidator(lambda text: text or "")] = Field("", validation_alias=AliasPath("state", "message"))
    process: str | None = Field(None, validation_alias="infrastructure_pid", description="what its worker calls its process")
    auto_scheduled: bool = Field(description="created by the deployment's schedule")
    created_by: str | None = Field(None, validation_alias=AliasPath("created_by", "type"))
    event_id: str | None = Field(None, validation_alias=AliasPath("parameters", "event", "event_id"))
    spec: str | None = Field(None, validation_alias=AliasPath("parameters", "spec"), description="whose model it is about")

    @property
    def terminal(self) -> bool:
        """Whether its state can no longer change."""
        return self.state in TERMINAL

    def is_due(self, now: datetime) -> bool:
        """Whether the time for which it was planned has come."""
        return self.expected_start is not None and self.expected_start <= now

    @property
    def automated(self) -> bool:
        """Whether an automation created it."""
        return self.created_by == "AUTOMATION"


class PrefectApi(ExitStack):
    """A client of one Prefect API; every call but `healthy` raises PrefectUnreachable."""

    def __init__(self, url: str, environ: Mapping[str, str], fix: str = FIX, patience: timedelta = BUSY_TIMEOUT) -> None:
        super().__init__()
        self.url, self._fix, self._patience = url.rstrip("/"), fix, patience
        try:
            # Loopback is not reached through the proxy of the environment.
            proxied = httpx.URL(url).host not in LOOPBACK
        except httpx.InvalidURL as error:
            raise PrefectUnreachable(f"{url!r} is no address of a Prefect API ({error}): correct PREFECT_API_URL") from error
        timeout = httpx.Timeout(REQUEST_TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())
        headers, verify = _authorization(environ), _trusted(environ)
        self._http = self.enter_context(httpx.Client(headers=headers, verify=verify, timeout=timeout, trust_env=proxied))

    def healthy(self) -> bool:
        """Whether the API answers now."""
        with suppress(httpx.HTTPError):
            return self._http.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT.total_seconds()).is_success
        return False

    def deployment_id(self, name: str) -> str:
        """The id of `flow/deployment`."""
        return str(self.request("GET", f"/deployments/name/{name}")["id"])

    def run(self, run_id: str) -> FlowRun:
        """One run by its id."""
        return FlowRun.model_validate(self.request("GET", f"/flow_runs/{run_id}"))

    def living_runs(self, flow: str, event_id: str) -> tuple[FlowRun, ...]:
        """The runs of a flow that answer an event and have not ended, by expected start."""
        states = {"state": {"type": {"any_": ["SCHEDULED", "PAUSED", *STARTED]}}}
        found = self._runs({"flows": {"name": {"any_": [flow]}}, "flow_runs": states})
        return tuple(run for run in found if run.event_id == event_id)

    def end_run(self, run_id: str, state: str, message: str) -> None:
        """Put a run whose process is gone into a state in which it stays; its concurrency slot is free then."""
        body = {"state": {"type": state, "message": message}, "force": True}
        self.request("POST", f"/flow_runs/{run_id}/set_state", body)

    def start_run(
        self, deployment_id: str, parameters: Mapping[str, object] | None = None, idempotency_key: str | None = None
    ) -> str:
        """Ask for one run of a deployment now; returns its id. Asked again with the same key it is the same run."""
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}, "idempotency_key": idempotency_key}
        return str(self.request("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def events(self, prefix: str, since: datetime, resource: str | None = None) -> list[dict[str, Any]]:
        """Events since a moment whose name begins with `prefix`, of one resource or of any, as the API has them, oldest first."""
        query: dict[str, Any] = {"event": {"prefix": [prefix]}, "occurred": {"since": since.isoformat()}}
        query |= {"resource": {"id": [resource]}} if resource else {}
        page = self.request("POST", "/events/filter", {"filter": query, "limit": EVENT_PAGE})
        rows = list(page["events"])
        while page["next_page"]:
            # The link bears the server's own idea of its address; only its token is wanted.
            token = httpx.URL(page["next_page"]).params["page-token"]
            page = self.request("GET", f"/events/filter/next?page-token={token}")
            rows += page["events"]
        return sorted(rows, key=lambda row: datetime.fromisoformat(row["occurred"]))

    def failed_actions(self, since: datetime) -> tuple[str, ...]:
        """Automations whose action failed since a moment, each in a line with its time, the newest first."""
        return tuple(map(describe_failed_action, self.events(ACTION_FAILED, since)[::-1]))

    def request(self, method: str, path: str, body: object = None, *, allow_missing: bool = False) -> Any:
        """One request by its path below the API, decoded; with `allow_missing`, None for a 404."""
        try:
            response = self._send(method, path, body)
            if allow_missing and response.status_code == httpx.codes.NOT_FOUND:
                return None
            response.raise_for_status()
            return response.json() if response.content else None
        except httpx.HTTPStatusError as error:
            refused = f"{error.response.status_code} {error.response.text[:300]}"
            raise PrefectUnreachable(f"{self.url} refuses {method} {path}: {refused}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise PrefectUnreachable(f"the Prefect API at {self.url} does not answer ({error}): {self._fix}") from error

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        deadline, pause = time.monotonic() + self._patience.total_seconds(), Event()
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
            found += map(FlowRun.model_validate, rows)
            if len(rows) < PAGE:
                return tuple(found)


def describe_failed_action(event: Mapping[str, Any]) -> str:
    """One line about an automation whose action failed, as the event about it has it."""
    at, payload = datetime.fromisoformat(event["occurred"]), event["payload"]
    action, why = payload.get("action_type") or "action", payload.get("reason", "no reason given")
    return f"{at:%Y-%m-%d %H:%M:%S} automation {action} failed: {why}"


def configured_api(patience: timedelta) -> PrefectApi:
    """The API that this process's Prefect is configured for; raises PrefectUnreachable where there is none."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_SSL_CERT_FILE, PREFECT_API_URL

    if (url := PREFECT_API_URL.value()) is None:
        raise PrefectUnreachable("PREFECT_API_URL is not set: there is no API to ask about flow runs")
    given = {one.name: one.value() for one in (PREFECT_API_KEY, PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE)}
    return PrefectApi(url, {name: str(value) for name, value in given.items() if value}, patience=patience)


def _trusted(environ: Mapping[str, str]) -> ssl.SSLContext | bool:
    """The authorities of Prefect's own setting, where it is set; else those that everyone trusts."""
    if (file := environ.get(CERTIFICATES)) is None:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise PrefectUnreachable(f"{CERTIFICATES}={file} cannot be read as certificates ({error}): name a PEM file") from error


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
