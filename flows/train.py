"""Train: from the sources to a published version; the first one serves at once, a later one unless the gate refuses it."""

from prefect import flow

from perennial.input_contract import set_base
from perennial.model_card import Cause
from tasks.data.ingest import ingest, with_table
from tasks.data.validate import validate
from tasks.hooks import report_failure, run_name
from tasks.job import open_training
from tasks.promotion.candidates import judge_challenger
from tasks.promotion.challenger import fit_challenger
from tasks.promotion.labelled_rows import LabelledRows
from tasks.promotion.publish import apply_verdict, publish_challenger, read_champion
from tasks.reporting.artifacts import show_checks, show_trials
from tasks.reporting.outcome import report_training
from tasks.training.learner_choice import choose_learner
from tasks.training.split import split_newest
from tasks.training.training_data import build_training_data


@flow(name="train", flow_run_name=run_name, on_failure=[report_failure])
def train(spec: str, until: str | None = None, table: str | None = None) -> int:
    """Train on the spec's sources before `until` (ISO time), `table` for the first one; returns the version published."""
    with open_training(spec) as opened:
        job = with_table(opened, table)
        dataset = ingest(job, until)
        rows, checks = validate(job, dataset)
        dataset = dataset.without_rows()
        show_checks(job, checks)
        split = split_newest(rows, job.spec.event_time, job.spec.split.test)
        known = LabelledRows(job.spec.event_time, dataset, rows, checks, split, checks.label_texts)
        older = build_training_data(job, split.train, dataset.manifest, label_texts=checks.label_texts)
        job, tuned = choose_learner(job, older)
        show_trials(job, tuned)
        champion = read_champion(job)
        cause = Cause(kind="manual" if champion else "initial")
        whole = build_training_data(job, rows, dataset.manifest, label_texts=checks.label_texts)
        draft = fit_challenger(job, known, older, whole, tuned, cause, champion)
        verdict = judge_challenger(job, known, champion, draft.model, draft.judge, by_person=True)
        challenger = publish_challenger(job, draft)
        set_base(job.home, dataset.manifest.fingerprint, job.spec, whole.compiled.features.kinds)
        apply_verdict(job, challenger.model, champion, verdict)
        report_training(job, challenger, known, verdict)
        return challenger.version
