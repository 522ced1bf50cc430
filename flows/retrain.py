"""Retrain: a challenger from all labelled rows of the prediction log, or of the sources; promoted at once if the spec says."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from monitoring.events import RETRAIN_STARTED
from tasks.check_ins import begin_check_in, end_check_in
from tasks.hooks import announce_failure, report_failure, run_name
from tasks.job import open_training
from tasks.promotion.candidates import find_published, judge_challenger
from tasks.promotion.challenger import train_challenger
from tasks.promotion.labelled_rows import read_labelled_rows
from tasks.promotion.publish import apply_verdict, publish_challenger, require_champion
from tasks.promotion.retrain_request import (
    already_handled,
    cause_of,
    inputs_changed,
    read_request,
    record_outcome,
    start_request,
)
from tasks.reporting.outcome import announce, decline, report_outcome


@flow(
    name="retrain",
    flow_run_name=run_name,
    on_running=[begin_check_in],
    on_completion=[end_check_in],
    on_failure=[report_failure, announce_failure, end_check_in],
    on_crashed=[end_check_in],
)
def retrain(spec: str, event: dict[str, Any] | None = None, scheduled: bool | str = False) -> int | State[None]:
    """Train a challenger for the event's cause, by the clock, or by hand; returns its version, or declines with the reason.

    `scheduled` is the moment for which the clock had planned it where that is not the run's own.
    """
    with open_training(spec, scheduled) as job:
        request, verdict = read_request(job, event), None
        start_request(job, request)
        champion = require_champion(job)
        if reason := already_handled(job, champion, request) or inputs_changed(job, request):
            return decline(job, request, reason)
        known = read_labelled_rows(job, champion, request)
        model, trained = find_published(job, request), None
        if model is None:
            announce(job, RETRAIN_STARTED, request)
            draft = train_challenger(job, known, cause_of(request, scheduled=bool(scheduled)), champion)
            trained = publish_challenger(job, draft)
            model = trained.model
        if job.spec.policy.promote == "always":
            by_person = request is None and not scheduled
            verdict = judge_challenger(job, known, champion, model, trained.judge if trained else None, by_person=by_person)
            apply_verdict(job, model, champion, verdict, request)
        record_outcome(job, request, verdict.outcome if verdict else "challenger")
        report_outcome(job, model, trained, known, verdict)
        return model.card.version
