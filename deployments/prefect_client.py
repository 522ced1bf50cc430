"""What the command line asks of a Prefect API, beyond what the monitor does: pools, workers, deployments, a model's history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from monitoring.events import ModelEvent, resource_id
from monitoring.prefect_api import ACTION_FAILED, FIX, FLEET, PAGE, STARTED, FlowRun, PrefectApi

__all__ = ["ACTION_FAILED", "FLEET", "STARTED", "FlowRun", "PrefectClient", "PrefectHistory", "require_api"]


class PrefectClient(PrefectApi):
    """A client of one Prefect API; every call but `healthy` raises PrefectUnreachable."""

    def has_pool(self, pool: str) -> bool:
        """Whether the work pool exists."""
        return self.request("GET", f"/work_pools/{pool}", allow_missing=True) is not None

    def online_workers(self, pool: str, since: datetime) -> tuple[str, ...]:
        """Names of the pool's workers whose last heartbeat is not older than `since`."""
        rows = self.request("POST", f"/work_pools/{pool}/workers/filter", {"limit": PAGE}, allow_missing=True) or []
        online = (row for row in rows if row["status"] == "ONLINE" and row["last_heartbeat_time"])
        return tuple(row["name"] for row in online if datetime.fromisoformat(row["last_heartbeat_time"]) >= since)

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

    def end_crashed_runs(self, pool: str, now: datetime) -> int:
        """End the runs whose process is gone, so that they hold no concurrency slots; call it only while the worker is down.

        A run of a schedule whose time has passed is cancelled, because the next one does the same; a run that was asked for
        stays scheduled. Returns how many runs were ended.
        """
        scheduled = (run for run in self.pool_runs(pool, ("SCHEDULED",)) if run.auto_scheduled and run.is_due(now))
        ended = [*((run, "CRASHED") for run in self.pool_runs(pool, STARTED)), *((run, "CANCELLED") for run in scheduled)]
        for run, state in ended:
            self.end_run(run.id, state, "The stack was down: no process works on this run.")
        return len(ended)


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
