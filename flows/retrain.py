"""Retrain: a challenger from everything the service was asked and told, and the gate's word on it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.data.retraining_data import choose, gather, validate_log
from tasks.hooks import announce_failure, report_failure, run_name
from tasks.job import begin
from tasks.promotion.gate import gate
from tasks.promotion.publish import publish, require_champion, settle
from tasks.promotion.receipt import answer, take
from tasks.promotion.retrain_request import cause_of, read_request, settled
from tasks.reporting.announce import announce_decline, announce_outcome, announce_start
from tasks.reporting.artifacts import show_outcome
from tasks.reporting.track import Training, track
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate
from tasks.training.evaluate import evaluate
from tasks.training.fit import fit
from tasks.training.split import hold_out_for_gate
from tasks.training.training_data import prepare
from tasks.training.tune import keep_or_tune


@flow(name="retrain", flow_run_name=run_name, on_failure=[report_failure, announce_failure])
def retrain(spec: str, event: dict[str, Any] | None = None) -> int | State[None]:
    """Train a challenger for the event's cause, or by hand; returns its version, or declines what is settled already."""
    job = begin(spec)
    request = read_request(job, event)
    take(job, request)
    champion = require_champion(job)
    if reason := settled(job, champion, request):
        answer(job, request, None)
        announce_decline(job, request, reason)
        return Completed(name="Declined", message=reason)
    announce_start(job, request)
    dataset = gather(job, champion)
    rows, _ = validate_log(job, dataset)
    split = hold_out_for_gate(job, rows)
    chosen = choose(job, split.train)
    material = prepare(job, chosen.rows, dataset.manifest, chosen.weights)
    tuned = keep_or_tune(job, material, champion)
    fitted = fit(job, material, tuned.params)
    evaluation = evaluate(job, fitted, split.test)
    draft = assemble(job, material, fitted, evaluation, cause_of(request), champion)
    calibration = calibrate(job, draft, material, fitted)
    challenger = publish(job, draft, calibration.bounds)
    verdict = settle(job, challenger, champion, gate(job, challenger, champion, split.test))
    answer(job, request, verdict)
    announce_outcome(job, challenger, verdict)
    show_outcome(job, challenger, evaluation, calibration, verdict)
    track(job, Training(challenger, fitted, evaluation, tuned, verdict, dataset))
    return challenger.card.version
