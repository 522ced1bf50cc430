"""What a Prefect API says happened since a moment: one model's flow runs and events, and automations that failed.

An automation whose action fails (a parameter rendered to the wrong type, a deployment that is gone) leaves one event in the feed
and no other sign, so `status` and the demo read that event.
"""

from collections.abc import Mapping
from datetime import datetime

from pydantic import AwareDatetime

from deployments.prefect_client.client import FlowRun, PrefectClient, PrefectEvent
from monitoring.events import resource_id
from perennial.base import FrozenModel

ACTION_FAILED = "prefect.automation.action.failed"
"""The event that a Prefect server sends when an automation's action did not happen."""


class AutomationFailure(FrozenModel):
    """An automation fired, and its action did not happen."""

    occurred: AwareDatetime
    action: str
    reason: str


class PrefectHistory:
    """Reads the runs and events of one model since a moment, and starts its runs; raises PrefectUnreachable."""

    def __init__(self, client: PrefectClient, model: str, since: datetime) -> None:
        self._client, self._model, self._since = client, model, since

    def runs(self, flow: str) -> list[FlowRun]:
        """Runs of `{flow}/{model}` created since the moment, oldest first; scheduled ones that have not begun are left out."""
        created = (run for run in self._client.deployment_runs(flow, self._model) if run.created >= self._since)
        return sorted((run for run in created if run.state != "SCHEDULED" or run.automated), key=lambda run: run.created)

    def run(self, run_id: str) -> FlowRun:
        """One run by its id."""
        return self._client.run(run_id)

    def run_for(self, event_id: str, flow: str = "retrain") -> FlowRun | None:
        """The run that an event started; the newest, should there be several."""
        return next((run for run in reversed(self.runs(flow)) if run.event_id == event_id), None)

    def start(self, flow: str, parameters: Mapping[str, object]) -> str:
        """Ask a worker to run `{flow}/{model}` now, with these parameters over the deployment's own; returns the run's id."""
        return self._client.start_run(self._client.deployment_id(f"{flow}/{self._model}"), parameters)

    def events(self, prefix: str = "perennial.") -> tuple[PrefectEvent, ...]:
        """Events on the model's resource that occurred since the moment, oldest first."""
        return self._client.events(prefix, self._since, resource_id(self._model))

    def failures(self) -> list[str]:
        """Automations of this API that failed since the moment, each in a sentence."""
        return [f"automation {failure.action} failed: {failure.reason}" for failure in failed_actions(self._client, self._since)]


def failed_actions(client: PrefectClient, since: datetime) -> tuple[AutomationFailure, ...]:
    """Actions that failed since a moment, the newest first; raises PrefectUnreachable."""
    return tuple(_read_failure(event) for event in reversed(client.events(ACTION_FAILED, since)))


def _read_failure(event: PrefectEvent) -> AutomationFailure:
    kind, reason = event.payload.get("action_type", "action"), event.payload.get("reason", "no reason given")
    return AutomationFailure(occurred=event.occurred, action=str(kind), reason=str(reason))
