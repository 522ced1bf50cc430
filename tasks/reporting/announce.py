"""Announce: what became of a training, told to Prefect as an event; silence of the event server never undoes the training."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from pydantic import JsonValue

from monitoring import events
from monitoring.events import Happening, RetrainRequest, event_key, send
from perennial.errors import PrefectUnreachable
from perennial.model import Model
from tasks.job import Job
from tasks.promotion.gate import Verdict
from tasks.task_defaults import step

OUTCOMES = {"promote": events.MODEL_PROMOTED, "hold": events.MODEL_HELD, "reject": events.MODEL_REJECTED}
"""The event of each decision of the gate."""

logger = logging.getLogger(__name__)


def retrain_happening(
    event: str, model: str, run_id: str | None, request: RetrainRequest | None, now: datetime, **payload: JsonValue
) -> Happening:
    """Something that happened to a retraining, following the event that asked for it."""
    asked = {"version": request.version, "cause": request.cause, "request": request.event_id} if request else {"cause": "manual"}
    follows = UUID(request.event_id) if request else None
    key = event_key(event, model, run_id or now.isoformat())
    return Happening(
        event=event, model=model, id=key, occurred=now, payload={**asked, "flow_run": run_id, **payload}, follows=follows
    )


def outcome_happening(job: Job, challenger: Model, verdict: Verdict, now: datetime) -> Happening:
    """What the gate decided about a version; the same version is decided about once."""
    card, event = challenger.card, OUTCOMES[verdict.decision]
    return Happening(
        event=event,
        model=card.name,
        id=event_key(event, card.name, card.version, card.trained_at.isoformat()),
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
        follows=UUID(card.cause.event_id) if card.cause.event_id else None,
    )


def tell(happening: Happening) -> bool:
    """Send, or warn; returns whether it was confirmed."""
    try:
        send(happening)
    except PrefectUnreachable as error:
        logger.warning("%s", error)
        return False
    return True


@step("announce start")
def announce_start(job: Job, request: RetrainRequest | None) -> None:
    """A retraining begins."""
    tell(retrain_happening(events.RETRAIN_STARTED, job.spec.name, job.run_id, request, datetime.now(UTC)))


@step("announce decline")
def announce_decline(job: Job, request: RetrainRequest | None, reason: str) -> None:
    """Nothing is trained, and why."""
    tell(retrain_happening(events.RETRAIN_DECLINED, job.spec.name, job.run_id, request, datetime.now(UTC), reason=reason))


@step("announce outcome")
def announce_outcome(job: Job, challenger: Model, verdict: Verdict) -> None:
    """The gate has decided."""
    tell(outcome_happening(job, challenger, verdict, datetime.now(UTC)))
