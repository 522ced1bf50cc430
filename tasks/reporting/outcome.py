"""What became of a training, for people to see: Prefect events and artifacts, and the W&B run.

An event server that does not answer is a warning in the log and never undoes the training.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from monitoring import events
from monitoring.events import ModelEvent, deterministic_id, send
from monitoring.retrain_requests import RetrainRequest
from perennial.errors import PrefectUnreachable
from perennial.model import Model
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.reporting.artifacts import show_outcome
from tasks.reporting.track import track
from tasks.task_defaults import local_task

OUTCOMES = {"promote": events.MODEL_PROMOTED, "hold": events.MODEL_HELD, "reject": events.MODEL_REJECTED}
"""The event of each decision of the gate."""

logger = logging.getLogger(__name__)


def retrain_event(
    event: str, model: str, run_id: str | None, request: RetrainRequest | None, now: datetime, **payload: Any
) -> ModelEvent:
    """Something that happened to a retraining, following the event that requested it."""
    origin = {"version": request.version, "cause": request.cause, "request": request.event_id} if request else {"cause": "manual"}
    follows = request.event_id if request else None
    key = deterministic_id(event, model, run_id or now.isoformat())
    return ModelEvent(
        name=event, model=model, id=key, occurred=now, payload={**origin, "flow_run": run_id, **payload}, follows=follows
    )


def gate_event(job: Job, challenger: Model, verdict: Verdict, now: datetime) -> ModelEvent:
    """What the gate decided about a version; the same version is decided about once."""
    card, event = challenger.card, OUTCOMES[verdict.decision]
    return ModelEvent(
        name=event,
        model=card.name,
        id=deterministic_id(event, card.name, card.version, card.trained_at.isoformat()),
        occurred=now,
        payload={
            "version": card.version,
            "cause": card.cause.kind,
            "request": card.cause.event_id,
            "flow_run": job.run_id,
            "train_rows": card.data.rows,
            "train_until": card.until.isoformat(),
            **verdict.model_dump(mode="json"),
        },
        follows=card.cause.event_id,
    )


def send_or_warn(event: ModelEvent) -> bool:
    """Send, or warn; returns whether it was confirmed."""
    try:
        send(event)
    except PrefectUnreachable as error:
        logger.warning("%s", error)
        return False
    return True


@local_task("announce start")
def announce_start(job: Job, request: RetrainRequest | None) -> None:
    """A retraining begins."""
    send_or_warn(retrain_event(events.RETRAIN_STARTED, job.spec.name, job.run_id, request, datetime.now(UTC)))


@local_task("announce decline")
def announce_decline(job: Job, request: RetrainRequest | None, reason: str) -> None:
    """Nothing is trained, and why."""
    send_or_warn(retrain_event(events.RETRAIN_DECLINED, job.spec.name, job.run_id, request, datetime.now(UTC), reason=reason))


@local_task("announce outcome")
def announce_outcome(job: Job, challenger: Model, verdict: Verdict) -> None:
    """The gate has decided."""
    send_or_warn(gate_event(job, challenger, verdict, datetime.now(UTC)))


def report_outcome(job: Job, challenger: Challenger, verdict: Verdict) -> None:
    """Everything a person may want to know of a training that is over; called inside a flow run."""
    announce_outcome(job, challenger.model, verdict)
    show_outcome(job, challenger, verdict)
    track(job, challenger, verdict)
