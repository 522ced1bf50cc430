"""Requests to retrain or to promote: read from an event, started, declined when they are handled already, given an outcome.

An automation may deliver an event twice, late, or after another run acted on it; the registry says what has come of one cause
(`monitoring.settling`). Start and outcome are steps of the decision ledger, which the monitor reads (`monitoring.ledger`). A
retraining by hand has no request, which is None in every function here, and leaves no step; one by the clock has none either,
and its steps are under the moment that it was planned for.
"""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from monitoring import ledger
from monitoring.events import clock_event_id
from monitoring.ledger import Outcome
from monitoring.policy import RetrainRequest
from monitoring.settling import Settled, find_outcome
from perennial.errors import TrainingError
from perennial.input_contract import contract_changes
from perennial.model import Model
from perennial.model_card import Cause
from perennial.model_loading import read_card_fields
from tasks.job import Job
from tasks.task_defaults import local_task


def read_request(job: Job, event: dict[str, Any] | None) -> RetrainRequest | None:
    """The event's payload; None for a retraining by hand. Raises TrainingError when it is not such a payload."""
    if event is None:
        return None
    try:
        request = RetrainRequest.model_validate_json(json.dumps(event))
    except ValidationError as error:
        raise TrainingError(f"parameter `event` is not a request to retrain: {error}; leave it out to act by hand") from error
    if request.model != job.spec.name:
        where = f"the event is about {request.model!r}, but the spec is {job.spec.name!r}"
        raise TrainingError(f"{where}: mend the automation's trigger")
    return request


@local_task("already handled")
def already_handled(job: Job, champion: Model, request: RetrainRequest | None) -> str | None:
    """Why nothing should be trained for this request; None when something should."""
    if request is None:
        return _trained_by_clock(job)
    if (settled := settled_by_registry(job, request)) is not None:
        return settled.reason
    return _outdated(champion, request) or _learnt(job, request)


@local_task("already promoted")
def already_promoted(job: Job, champion: Model, request: RetrainRequest | None) -> str | None:
    """Why nothing should be promoted for this request; None when something should. A failure may be made good."""
    if request is None:
        return None
    if (settled := settled_by_registry(job, request)) is not None:
        return settled.reason
    entry = ledger.read_entry(job.home, request.event_id)
    if entry is not None and entry.outcome not in (None, "failed"):
        return f"this event is settled: {entry.outcome}"
    return _outdated(champion, request)


def settled_by_registry(job: Job, request: RetrainRequest) -> Settled | None:
    """What has come of the request, whoever was killed before it was written down."""
    return find_outcome(job.registry, request, challengers_suffice=job.spec.policy.promote != "always")


def _trained_by_clock(job: Job) -> str | None:
    """Whether a training by the clock was done for its moment; a failure may be made good."""
    event_id = decision_of(job, None)
    entry = ledger.read_entry(job.home, event_id) if event_id else None
    if entry is None or entry.outcome in (None, "failed"):
        return None
    return f"the training planned for {job.planned:%Y-%m-%d %H:%M} has its outcome: {entry.outcome}"


def decision_of(job: Job, request: RetrainRequest | None) -> str | None:
    """The decision that this run carries out, by its id in the ledger; None for a training by hand."""
    if request is not None:
        return request.event_id
    return clock_event_id(job.spec.name, job.planned) if job.planned else None


def _learnt(job: Job, request: RetrainRequest) -> str | None:
    """Which newer version knows the window's rows; where findings promote, the gate may have refused it, so that none counts."""
    if job.spec.policy.promote == "always":
        return None
    for version in (one for one in job.registry.versions(job.spec.name) if one > request.version):
        learnt = read_card_fields(job.registry, job.spec.name, version)["data"]["until"]
        if datetime.fromisoformat(learnt) >= request.window_end:
            return f"version {version} has learnt rows until {learnt}, from after the window that the event is about"
    return None


def _outdated(champion: Model, request: RetrainRequest) -> str | None:
    standing = champion.card.version
    if request.version == standing:
        return None
    return f"the event is about version {request.version}, and version {standing} serves by now"


def inputs_changed(job: Job, request: RetrainRequest | None) -> str | None:
    """Why the spec must be trained first, with the command; raises TrainingError with that for a retraining by hand."""
    reason = contract_changes(job.home, job.spec, job.path)
    if reason is not None and request is None:
        raise TrainingError(reason)
    return reason


def cause_of(request: RetrainRequest | None, *, scheduled: bool = False) -> Cause:
    """Why the challenger is trained, as its card will say."""
    if request is None and scheduled:
        return Cause(kind="schedule", detail="trained by the clock, as policy.schedule says")
    if request is None:
        return Cause(kind="manual", detail="trained by hand")
    if request.cause == "data":
        raise TrainingError("broken data is mended at its source, not learnt: take this event out of the automation's trigger")
    if request.cause == "rollback":
        raise TrainingError("a rollback is the monitor's to do: take this event out of the automation's trigger")
    return Cause(kind=request.cause, event_id=request.event_id, detail=request.reason)


@local_task("start request")
def start_request(job: Job, request: RetrainRequest | None) -> None:
    """Write that this run works on the request: from here on the monitor need not send it again."""
    if (event_id := decision_of(job, request)) is not None:
        ledger.start(job.home, event_id, datetime.now(UTC), job.run_id, None if request else job.planned)


@local_task("record outcome")
def record_outcome(job: Job, request: RetrainRequest | None, outcome: Outcome, reason: str = "") -> None:
    """Write what became of a request, and why; raises ArchiveError when that cannot be written, StaleToken for a late run."""
    if (event_id := decision_of(job, request)) is not None:
        job.registry.require_token(job.spec.name)
        ledger.record_outcome(job.home, event_id, outcome, datetime.now(UTC), job.run_id, reason)


def try_again(job: Job, request: RetrainRequest | None, reason: str) -> bool:
    """Write that this run died of its machine: the monitor sends the request again, within its budget.

    False where nobody would: for what no monitor has decided, or another run has taken over.
    """
    event_id = decision_of(job, request)
    entry = ledger.read_entry(job.home, event_id) if event_id else None
    if entry is None or (entry.request is None and entry.planned is None):
        return False
    job.registry.require_token(job.spec.name)
    died = ledger.LedgerStep(stage="died", at=datetime.now(UTC), flow_run=job.run_id, reason=reason)
    return ledger.advance(job.home, entry.event_id, died)
