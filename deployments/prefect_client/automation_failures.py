"""What prefect.yaml cannot say about automations: whether one of them failed. It only reads.

An automation whose action fails (a parameter rendered to the wrong type, a deployment that is gone) says so nowhere but
in one event of the feed, so somebody has to look there.
"""

from datetime import datetime

from pydantic import AwareDatetime

from deployments.prefect_client.client import Happened, PrefectApi
from perennial.base import FrozenModel

FAILED = "prefect.automation.action.failed"
"""The event with which a Prefect server tells that an automation's action did not happen."""


class FailedAction(FrozenModel):
    """An automation fired, and what it was to do did not happen."""

    occurred: AwareDatetime
    action: str
    reason: str


def failed_actions(api: PrefectApi, since: datetime) -> tuple[FailedAction, ...]:
    """Actions that failed since a moment, the newest first; raises PrefectUnreachable."""
    return tuple(_read(event) for event in api.events(FAILED, since))


def _read(event: Happened) -> FailedAction:
    kind = str(event.payload.get("action_type", "action"))
    return FailedAction(occurred=event.occurred, action=kind, reason=str(event.payload.get("reason", "no reason given")))
