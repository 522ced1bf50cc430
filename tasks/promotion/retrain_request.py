"""Decline: whether a request to retrain is settled already, so that one cause is trained for once.

The automation may deliver an event twice, late, or after somebody else acted on it; only the registry knows.
"""

import json
from typing import Any

from pydantic import ValidationError

from monitoring.events import RetrainRequest
from perennial.errors import TrainingError
from perennial.model import CARD_FILE, Model
from perennial.model_card import Cause
from tasks.job import Job
from tasks.task_defaults import step


def read_request(job: Job, event: dict[str, Any] | None) -> RetrainRequest | None:
    """The event's payload; None for a retraining by hand. Raises TrainingError when it is not such a payload."""
    if event is None:
        return None
    try:
        request = RetrainRequest.model_validate_json(json.dumps(event))
    except ValidationError as error:
        raise TrainingError(f"parameter `event` is not a request to retrain: {error}; leave it out to retrain by hand") from error
    if request.model != job.spec.name:
        raise TrainingError(
            f"the event is about {request.model!r}, but the spec is {job.spec.name!r}: mend the automation's trigger"
        )
    return request


def why_decline(job: Job, champion: Model, request: RetrainRequest | None) -> str | None:
    """Why nothing should be trained for this request; None when something should."""
    if request is None:
        return None
    standing = champion.card.version
    if request.version != standing:
        return f"the event is about version {request.version}, and version {standing} serves by now"
    newer = [version for version in job.registry.versions(job.spec.name) if version > request.version]
    settled = next((version for version in newer if _asked_by(job, version) == request.event_id), None)
    return None if settled is None else f"version {settled} was trained for this event already"


def cause_of(request: RetrainRequest | None) -> Cause:
    """Why the challenger is trained, as its card will say."""
    if request is None:
        return Cause(kind="manual", detail="retrained by hand")
    if request.cause == "data":
        raise TrainingError("broken data is mended at its source, not learnt: take this event out of the automation's trigger")
    return Cause(kind=request.cause, event_id=request.event_id, detail=request.reason)


def _asked_by(job: Job, version: int) -> str | None:
    """The event a version was trained for; its card alone is read, as it stands."""
    card = json.loads(job.registry.read(job.spec.name, version)[CARD_FILE])
    asked: str | None = card["cause"]["event_id"]
    return asked


@step("request")
def settled(job: Job, champion: Model, request: RetrainRequest | None) -> str | None:
    """Why this request is declined, if it is."""
    return why_decline(job, champion, request)
