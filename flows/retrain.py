"""Retrain: a challenger from all labelled rows of the prediction log, or of the sources; promoted at once if the spec says."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from monitoring.events import RETRAIN_STARTED
from tasks.check_ins import begin_check_in, end_check_in
from tasks.hooks import announce_failure, report_failure, run_name
from tasks.job import open_job
from tasks.promotion.candidates import judge_challenger
from tasks.promotion.challenger import train_challenger
from tasks.promotion.labelled_rows import read_labelled_rows
from tasks.promotion.publish import apply_verdict, publish_challenger, require_champion
from tasks.promotion.retrain_request import (
    acknowledge_request,
    already_handled,
    cause_of,
    inputs_changed,
    read_request,
    record_outcome,
)
from tasks.reporting.outcome import announce, decline, report_training


@flow(
    name="retrain",
    flow_run_name=run_name,
    on_running=[begin_check_in],
    on_completion=[end_check_in],
    on_failure=[report_failure, announce_failure, end_check_in],
    on_crashed=[end_check_in],
)
def retrain(spec: str, event: dict[str, Any] | None = None, scheduled: bool = False) -> int | State[None]:
    """Train a challenger for the event's cause, by the clock, or by hand; returns its version, or declines with the reason."""
    job = open_job(spec)
    request = read_request(job, event)
    acknowledge_request(job, request)
    champion = require_champion(job)
    if reason := already_handled(job, champion, request) or inputs_changed(job, request):
        return decline(job, request, reason)
    announce(job, RETRAIN_STARTED, request)
    known, verdict = read_labelled_rows(job, champion, request), None
    draft = train_challenger(job, known, cause_of(request, scheduled=scheduled), champion)
    if job.spec.policy.promote == "always":
        verdict = judge_challenger(job, known, champion, draft.model, draft.judge, by_person=request is None and not scheduled)
    challenger = publish_challenger(job, draft)
    if verdict is not None:
        apply_verdict(job, challenger.model, champion, verdict)
    record_outcome(job, request, verdict.outcome if verdict else "challenger")
    report_training(job, challenger, known, verdict)
    return challenger.version
