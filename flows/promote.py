"""Promote: the newest challenger past the gate, trained first where none knows all labelled rows up to now."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from monitoring.events import RETRAIN_STARTED
from tasks.hooks import announce_failure, report_failure, run_name
from tasks.job import open_training
from tasks.promotion.candidates import find_challenger, judge_challenger
from tasks.promotion.challenger import train_challenger
from tasks.promotion.labelled_rows import read_labelled_rows
from tasks.promotion.publish import apply_verdict, publish_challenger, require_champion
from tasks.promotion.retrain_request import (
    already_promoted,
    cause_of,
    inputs_changed,
    read_request,
    record_outcome,
    start_request,
)
from tasks.reporting.outcome import announce, decline, report_outcome


@flow(name="promote", flow_run_name=run_name, on_failure=[report_failure, announce_failure])
def promote(spec: str, event: dict[str, Any] | None = None) -> int | State[None]:
    """Make a version that knows all labelled rows champion unless the gate refuses; returns it, or declines with the reason."""
    with open_training(spec) as job:
        request = read_request(job, event)
        start_request(job, request)
        champion = require_champion(job)
        if reason := already_promoted(job, champion, request) or inputs_changed(job, request):
            return decline(job, request, reason)
        known, trained = read_labelled_rows(job, champion, request), None
        model = find_challenger(job, champion, known)
        if model is None:
            announce(job, RETRAIN_STARTED, request)
            trained = publish_challenger(job, train_challenger(job, known, cause_of(request), champion))
            model = trained.model
        verdict = judge_challenger(job, known, champion, model, trained.judge if trained else None, by_person=request is None)
        apply_verdict(job, model, champion, verdict, request)
        record_outcome(job, request, verdict.outcome)
        report_outcome(job, model, trained, known, verdict)
        return model.card.version
