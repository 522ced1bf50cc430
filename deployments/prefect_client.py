"""Prefect's API over plain HTTP with one kept-alive connection: pools, workers, flow runs, events, and one model's history.

It is used instead of Prefect's own client because importing Prefect takes a second, and `perennial status` would wait for it. A
server that is too busy (503: its SQLite file is locked and nothing was done) is asked again for up to half a minute. Any other
failure is a PrefectUnreachable that names the address.
"""

import base64
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from typing import Annotated, Any

import httpx
from pydantic import AliasPath, AwareDatetime, BeforeValidator, ConfigDict, Field

from monitoring.events import ModelEvent, resource_id
from perennial.base import FrozenModel
from perennial.errors import PrefectUnreachable
from perennial.settings import LOOPBACK

FLEET = "fleet"  # name of every deployment: there is one of each flow for all models, as prefect.yaml declares them

PAGE, EVENT_PAGE = 200, 50  # runs or workers, and events, in one answer; the API's own limits

REQUEST_TIMEOUT, CONNECT_TIMEOUT, HEALTH_TIMEOUT = timedelta(seconds=30), timedelta(seconds=5), timedelta(seconds=2)
"""A busy SQLite server may take several seconds; one that is up answers its health check in milliseconds."""

BUSY_TIMEOUT, BUSY_INTERVAL = timedelta(seconds=30), timedelta(seconds=0.5)  # in which, and how often, it is asked again
FIX = "run `perennial up SPEC`, or check PREFECT_API_URL"  # for an API that does not answer, unless the caller knows better
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
    state: str = Field("PENDING", validation_alias=AliasPath("state", "type"), description="state type, such as COMPLETED")
    message: Annotated[str, BeforeValidator(lambda text: text or "")] = Field("", validation_alias=AliasPath("state", "message"))
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


class PrefectClient(ExitStack):
    """A client of one Prefect API; every call but `healthy` raises PrefectUnreachable."""

    def __init__(self, url: str, environ: Mapping[str, str], fix: str = FIX) -> None:
        super().__init__()
        self.url, self._fix = url.rstrip("/"), fix
        try:
            # Loopback is not reached through the proxy of the environment.
            proxied = httpx.URL(url).host not in LOOPBACK
        except httpx.InvalidURL as error:
            raise PrefectUnreachable(f"{url!r} is no address of a Prefect API ({error}): correct PREFECT_API_URL") from error
        timeout = httpx.Timeout(REQUEST_TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())
        self._http = self.enter_context(httpx.Client(headers=_authorization(environ), timeout=timeout, trust_env=proxied))

    def healthy(self) -> bool:
        """Whether the API answers now."""
        with suppress(httpx.HTTPError):
            return self._http.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT.total_seconds()).is_success
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

    def deployed_flows(self, deployment: str) -> set[str]:
        """The flows that have a deployment of this name."""
        rows = self.request("POST", "/deployments/filter", {"deployments": {"name": {"any_": [deployment]}}, "limit": PAGE})
        flows = self.request("POST", "/flows/filter", {"deployments": {"name": {"any_": [deployment]}}, "limit": PAGE})
        deployed = {row["flow_id"] for row in rows}
        return {flow["name"] for flow in flows if flow["id"] in deployed}

    def automations(self) -> set[str]:
        """Names of the automations of the API."""
        return {row["name"] for row in self.request("POST", "/automations/filter", {"limit": PAGE})}

    def delete_deployments_of_single_models(self, tag: str) -> tuple[str, ...]:
        """Delete what a release deployed that had a set for each model, with its automations; returns the models' names.

        Those deployments are named and tagged by their model: nobody else's have the same tags, name and entrypoint.
        """
        rows = self.request("POST", "/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}, "limit": PAGE})
        found = [row for row in rows if set(row["tags"]) == {tag, row["name"]} and str(row["entrypoint"]).startswith("flows.")]
        for row in found:
            self.request("DELETE", f"/automations/owned-by/prefect.deployment.{row['id']}")
            self.request("DELETE", f"/deployments/{row['id']}")
        return tuple(dict.fromkeys(row["name"] for row in found))

    def delete_schedules(self, flow: str, deployment: str, *, slug: str) -> int:
        """Delete the schedules of this slug, with the runs that they have planned; returns how many there were."""
        found = self.request("GET", f"/deployments/name/{flow}/{deployment}", allow_missing=True) or {}
        ids = [one["id"] for one in found.get("schedules", ()) if one.get("slug") == slug]
        for one in ids:
            self.request("DELETE", f"/deployments/{found['id']}/schedules/{one}")
        return len(ids)

    def followed_specs(self) -> tuple[str, ...]:
        """What the deployed monitor follows; nothing where none is deployed."""
        found = self.request("GET", f"/deployments/name/monitor/{FLEET}", allow_missing=True)
        return tuple((found or {}).get("parameters", {}).get("specs", ()))

    def run(self, run_id: str) -> FlowRun:
        """One run by its id."""
        return FlowRun.model_validate(self.request("GET", f"/flow_runs/{run_id}"))

    def pool_runs(self, pool: str, states: tuple[str, ...]) -> tuple[FlowRun, ...]:
        """Runs of a pool in states of these types, by expected start."""
        return self._runs({"work_pools": {"name": {"any_": [pool]}}, "flow_runs": {"state": {"type": {"any_": list(states)}}}})

    def deployment_runs(self, flow: str, deployment: str) -> tuple[FlowRun, ...]:
        """All runs of `flow/deployment`, by expected start."""
        return self._runs({"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}})

    def newest_run(self, flow: str, deployment: str, now: datetime) -> FlowRun | None:
        """The run of `flow/deployment` that began last, or was to begin last and waits for a worker."""
        due = {"expected_start_time": {"before_": now.isoformat()}}
        named = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}, "flow_runs": due}
        rows = self.request("POST", "/flow_runs/filter", {**named, "sort": "EXPECTED_START_TIME_DESC", "limit": 1})
        return FlowRun.model_validate(rows[0]) if rows else None

    def start_run(self, deployment_id: str, parameters: Mapping[str, object] | None = None) -> str:
        """Ask for one run of a deployment now; returns its id."""
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}}
        return str(self.request("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def end_crashed_runs(self, pool: str, now: datetime) -> int:
        """End the runs whose process is gone, so that they hold no concurrency slots; call it only while the worker is down.

        A run of a schedule whose time has passed is cancelled, because the next one does the same; a run that was asked for
        stays scheduled. Returns how many runs were ended.
        """
        scheduled = (run for run in self.pool_runs(pool, ("SCHEDULED",)) if run.auto_scheduled and run.is_due(now))
        ended = [*((run, "CRASHED") for run in self.pool_runs(pool, STARTED)), *((run, "CANCELLED") for run in scheduled)]
        for run, state in ended:
            body = {"state": {"type": state, "message": "The stack was down: no process works on this run."}, "force": True}
            self.request("POST", f"/flow_runs/{run.id}/set_state", body)
        return len(ended)

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
        found = ((datetime.fromisoformat(row["occurred"]), row["payload"]) for row in self.events(ACTION_FAILED, since)[::-1])
        said = ((at, one.get("action_type") or "action", one.get("reason", "no reason given")) for at, one in found)
        return tuple(f"{at:%Y-%m-%d %H:%M:%S} automation {action} failed: {why}" for at, action, why in said)

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
            found += map(FlowRun.model_validate, rows)
            if len(rows) < PAGE:
                return tuple(found)


def require_api(url: str, environ: Mapping[str, str], fix: str = FIX) -> None:
    """Raises PrefectUnreachable, with the address, the reason and the fix, unless an API answers at `url` now."""
    with PrefectClient(url, environ, fix) as api:
        api.request("GET", "/health")


@dataclass(frozen=True)
class PrefectHistory:
    """The runs and events of one model since a moment, read by `client`, and its runs started; raises PrefectUnreachable.

    `spec` is its spec's path as flows open it: the runs of a deployment are of all models, and their parameter says of which.
    """

    client: PrefectClient
    model: str
    since: datetime
    spec: str

    def runs(self, flow: str) -> list[FlowRun]:
        """Runs of a flow about the model created since the moment, oldest first; scheduled ones not begun are left out.

        A run without a spec is one of the monitor, which is about all models.
        """
        runs = self.client.deployment_runs(flow, FLEET)
        created = (run for run in runs if run.spec in (self.spec, None) and run.created >= self.since)
        return sorted((run for run in created if run.state != "SCHEDULED" or run.automated), key=lambda run: run.created)

    def run_for(self, event_id: str, flow: str = "retrain") -> FlowRun | None:
        """The run that an event started; the newest, should there be several."""
        runs = (run for run in self.client.deployment_runs(flow, FLEET) if run.event_id == event_id and run.created >= self.since)
        return max(runs, key=lambda run: run.created, default=None)

    def start(self, flow: str, parameters: Mapping[str, object]) -> str:
        """Ask a worker to run a flow for the model now, with these parameters; returns the run's id."""
        return self.client.start_run(self.client.deployment_id(f"{flow}/{FLEET}"), {"spec": self.spec, **parameters})

    def events(self) -> tuple[ModelEvent, ...]:
        """Events on the model's resource that occurred since the moment, oldest first."""
        rows = self.client.events("perennial.", self.since, resource_id(self.model))
        same = ("id", "occurred", "payload", "follows")
        return tuple(ModelEvent(name=row["event"], model=self.model, **{name: row[name] for name in same}) for row in rows)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
