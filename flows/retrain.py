"""Retrain: a challenger from the base dataset and the labelled rows of the prediction log, and the gate's decision on it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from monitoring.events import RETRAIN_DECLINED, RETRAIN_STARTED
from tasks.data.retraining_data import build_dataset, find_new_classes, select_rows, validate_log
from tasks.hooks import announce_failure, report_failure, run_name
from tasks.job import open_job
from tasks.promotion.gate import gate
from tasks.promotion.publish import apply_verdict, publish_challenger, require_champion, train_challenger
from tasks.promotion.retrain_request import (
    acknowledge_request,
    already_handled,
    cause_of,
    inputs_changed,
    read_request,
    record_outcome,
)
from tasks.reporting.outcome import announce, report_outcome
from tasks.training.split import split_newest
from tasks.training.training_data import build_training_data
from tasks.training.tune import keep_or_tune


@flow(name="retrain", flow_run_name=run_name, on_failure=[report_failure, announce_failure])
def retrain(spec: str, event: dict[str, Any] | None = None) -> int | State[None]:
    """Train a challenger for the event's cause, or by hand; returns its version, or declines with the reason."""
    job = open_job(spec)
    request = read_request(job, event)
    acknowledge_request(job, request)
    champion = require_champion(job)
    if reason := already_handled(job, champion, request) or inputs_changed(job, request):
        record_outcome(job, request, "declined")
        announce(job, RETRAIN_DECLINED, request, reason=reason)
        return Completed(name="Declined", message=reason)
    announce(job, RETRAIN_STARTED, request)
    dataset = build_dataset(job, champion)
    rows, checks = validate_log(job, dataset)
    split = split_newest(rows, job.spec.event_time, job.spec.gate.holdout)
    new_classes = find_new_classes(job, rows, champion)
    selected = select_rows(job, split.train, new_classes)
    data = build_training_data(job, selected.rows, dataset.manifest, selected.weights, champion.card.label_texts)
    tuned = keep_or_tune(job, data, champion)
    draft = train_challenger(job, dataset, data, tuned, split.test, cause_of(request), champion)
    verdict = gate(job, draft.model, champion, split.test, new_classes)
    challenger = publish_challenger(job, draft)
    apply_verdict(job, challenger.model, champion, verdict)
    record_outcome(job, request, verdict.outcome)
    report_outcome(job, challenger, checks, verdict)
    return challenger.version
