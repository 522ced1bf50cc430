"""Train: from the sources to a published version; the first one serves at once, a later one must beat the champion."""

from prefect import flow

from perennial.model_card import Cause
from tasks.data.datasets import mark_first
from tasks.data.ingest import ingest
from tasks.data.validate import validate
from tasks.hooks import report_failure, run_name
from tasks.job import begin
from tasks.promotion.gate import gate
from tasks.promotion.publish import champion_of, publish, settle
from tasks.reporting.announce import announce_outcome
from tasks.reporting.artifacts import show_checks, show_outcome, show_trials
from tasks.reporting.track import Training, track
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate
from tasks.training.evaluate import evaluate
from tasks.training.fit import fit
from tasks.training.split import hold_out_test
from tasks.training.training_data import prepare
from tasks.training.tune import tune


@flow(name="train", flow_run_name=run_name, on_failure=[report_failure])
def train(spec: str, until: str | None = None) -> int:
    """Train on the spec's sources before `until` (ISO time); returns the version published."""
    job = begin(spec)
    dataset = ingest(job, until)
    rows, checks = validate(job, dataset)
    show_checks(job, checks)
    split = hold_out_test(job, rows)
    material = prepare(job, split.train, dataset.manifest)
    tuned = tune(job, material, job.spec.search.trials)
    fitted = fit(job, material, tuned.params)
    evaluation = evaluate(job, fitted, split.test)
    champion = champion_of(job)
    draft = assemble(job, material, fitted, evaluation, Cause(kind="manual" if champion else "initial"), champion)
    calibration = calibrate(job, draft, material, fitted)
    challenger = publish(job, draft, calibration.bounds)
    mark_first(job.home, dataset)
    verdict = settle(job, challenger, champion, gate(job, challenger, champion, split.test))
    announce_outcome(job, challenger, verdict)
    show_trials(job, tuned)
    show_outcome(job, challenger, evaluation, calibration, verdict)
    track(job, Training(challenger, fitted, evaluation, tuned, verdict, dataset))
    return challenger.card.version
