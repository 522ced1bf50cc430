"""What became of a training, for people to see: Prefect events and artifacts, and the W&B run.

An event server that does not answer is a warning in the log and never undoes the training.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from monitoring import events
from monitoring.events import ModelEvent, deterministic_id, send
from monitoring.policy import RetrainRequest
from perennial.errors import PrefectUnreachable
from perennial.model import Model
from tasks.data.retraining_data import NewClass
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.promotion.labelled_rows import LabelledRows
from tasks.reporting.artifacts import show_evaluation, show_verdict
from tasks.reporting.track import track, track_verdict
from tasks.reporting.training_report import add_verdict, write_training_report
from tasks.task_defaults import local_task

OUTCOMES = {"promote": events.MODEL_PROMOTED, "hold": events.MODEL_HELD, "reject": events.MODEL_REJECTED}
"""The event of each decision of the gate."""

logger = logging.getLogger(__name__)


def send_or_warn(event: ModelEvent) -> None:
    """Send, or warn when it is not confirmed."""
    try:
        send(event)
    except PrefectUnreachable as error:
        logger.warning("%s", error)


@local_task("announce")
def announce(job: Job, event: str, request: RetrainRequest | None, **payload: Any) -> None:
    """Send what happened to a retraining, following the event that requested it."""
    origin = {"version": request.version, "cause": request.cause, "request": request.event_id} if request else {"cause": "manual"}
    now, model, follows = datetime.now(UTC), job.spec.name, request.event_id if request else None
    key, told = deterministic_id(event, model, job.run_id or now.isoformat()), {**origin, "flow_run": job.run_id, **payload}
    send_or_warn(ModelEvent(name=event, model=model, id=key, occurred=now, payload=told, follows=follows))


@local_task("announce outcome")
def announce_outcome(job: Job, challenger: Model, verdict: Verdict) -> None:
    """Send what the gate decided about a version; the same version is decided about once."""
    card, event = challenger.card, OUTCOMES[verdict.decision]
    payload = {
        "version": card.version,
        "cause": card.cause.kind,
        "request": card.cause.event_id,
        "flow_run": job.run_id,
        "train_rows": card.data.rows,
        "train_until": card.until.isoformat(),
        **verdict.model_dump(mode="json"),
    }
    key = deterministic_id(event, card.name, card.version, card.trained_at.isoformat())
    now, follows = datetime.now(UTC), card.cause.event_id
    send_or_warn(ModelEvent(name=event, model=card.name, id=key, occurred=now, payload=payload, follows=follows))


@local_task("announce new classes")
def announce_new_classes(job: Job, challenger: Model, new_classes: tuple[NewClass, ...]) -> None:
    """Send which classes of the labels the champion did not know, and which of them the version has learnt."""
    now, model, classes = datetime.now(UTC), job.spec.name, [one.model_dump() for one in new_classes]
    key = deterministic_id(events.LABELS_UNKNOWN, model, job.run_id or now.isoformat())
    card = challenger.card
    payload = {"version": card.parent, "challenger": card.version, "flow_run": job.run_id, "classes": classes}
    send_or_warn(ModelEvent(name=events.LABELS_UNKNOWN, model=model, id=key, occurred=now, payload=payload))


def report_training(job: Job, challenger: Challenger, known: LabelledRows, verdict: Verdict | None) -> None:
    """Everything a person may want to know of a training that is over; called inside a flow run.

    Without a verdict the version was published as a challenger, and nothing has been decided about it.
    """
    write_training_report(job, challenger, known, verdict)
    show_evaluation(job, challenger, known.new_classes)
    if known.new_classes:
        announce_new_classes(job, challenger.model, known.new_classes)
    if verdict is not None:
        announce_outcome(job, challenger.model, verdict)
        show_verdict(job, challenger.model, verdict)
    track(job, challenger, verdict)


def report_verdict(job: Job, model: Model, verdict: Verdict) -> None:
    """What the gate decided about a version that was trained earlier."""
    add_verdict(job, model.card.version, verdict)
    announce_outcome(job, model, verdict)
    show_verdict(job, model, verdict)
    track_verdict(job, model, verdict)
