"""What became of a training, for people to see: Prefect events and artifacts, and the W&B run.

An event server that does not answer is a warning in the log and never undoes the training.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

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
from tasks.promotion.retrain_request import record_outcome, settled_by_registry
from tasks.reporting.artifacts import show_evaluation, show_verdict
from tasks.reporting.track import track, track_verdict
from tasks.reporting.training_report import add_verdict, write_training_report
from tasks.task_defaults import local_task

OUTCOMES = {"promote": events.MODEL_PROMOTED, "hold": events.MODEL_HELD, "reject": events.MODEL_REJECTED}  # by decision

logger = logging.getLogger(__name__)


def send_or_warn(job: Job, event: str, *about: str | int, follows: str | None = None, **payload: Any) -> None:
    """Send what happened to the job's model, or warn when it is not confirmed; the same event `about` the same is sent once."""
    model, now = job.spec.name, datetime.now(UTC)
    id_ = deterministic_id(event, model, *(about or (job.run_id or now.isoformat(),)))
    told = {**payload, "flow_run": job.run_id}
    try:
        send(ModelEvent(name=event, model=model, id=id_, occurred=now, payload=told, follows=follows))
    except PrefectUnreachable as error:
        logger.warning("%s", error)


@local_task("announce")
def announce(job: Job, event: str, request: RetrainRequest | None, **payload: Any) -> None:
    """Send what happened to a retraining, following the event that requested it."""
    follows = request.event_id if request else None
    origin = {"version": request.version, "cause": request.cause, "request": follows} if request else {"cause": "manual"}
    send_or_warn(job, event, follows=follows, **origin, **payload)


def decline(job: Job, request: RetrainRequest | None, reason: str) -> State[None]:
    """Settle a request for which nothing is to be done; the state in which the flow run ends.

    What a run that was killed has done for it is its outcome, where there is such a thing.
    """
    settled = settled_by_registry(job, request) if request is not None else None
    record_outcome(job, request, settled.outcome if settled else "declined", reason)
    announce(job, events.RETRAIN_DECLINED, request, reason=reason)
    return Completed(name="Declined", message=reason)


@local_task("announce outcome")
def announce_outcome(job: Job, challenger: Model, verdict: Verdict) -> None:
    """Send what the gate decided about a version; the same version is decided about once."""
    card = challenger.card
    payload = {
        "version": card.version,
        "cause": card.cause.kind,
        "request": card.cause.event_id,
        "train_rows": card.data.rows,
        "train_until": card.until.isoformat(),
        **verdict.model_dump(mode="json"),
    }
    about = card.version, card.trained_at.isoformat()
    send_or_warn(job, OUTCOMES[verdict.decision], *about, follows=card.cause.event_id, **payload)


@local_task("announce new classes")
def announce_new_classes(job: Job, challenger: Model, new_classes: tuple[NewClass, ...]) -> None:
    """Send which classes of the labels the champion did not know, and which of them the version has learnt."""
    card, classes = challenger.card, [one.model_dump() for one in new_classes]
    send_or_warn(job, events.LABELS_UNKNOWN, version=card.parent, challenger=card.version, classes=classes)


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


def report_outcome(job: Job, model: Model, trained: Challenger | None, known: LabelledRows, verdict: Verdict | None) -> None:
    """Report a training that is over, or what was decided about a version that was trained earlier."""
    if trained is not None:
        report_training(job, trained, known, verdict)
    elif verdict is not None:
        report_verdict(job, model, verdict)


def report_verdict(job: Job, model: Model, verdict: Verdict) -> None:
    """What the gate decided about a version that was trained earlier."""
    add_verdict(job, model.card.version, verdict)
    announce_outcome(job, model, verdict)
    show_verdict(job, model, verdict)
    track_verdict(job, model, verdict)
