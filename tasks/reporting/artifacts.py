"""Artifacts in the Prefect UI: what a run found and decided, readable without any other tool."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from monitoring.avoidable_loss import ExcessLoss
from monitoring.calibration import Calibration, missing_bounds_warning
from monitoring.champion_account import AccountStatement
from monitoring.policy import Findings
from monitoring.state import WindowResult
from perennial.model import Model
from perennial.settings import PAGE
from perennial.signals import SIGNALS
from tasks.data.retraining_data import NewClass
from tasks.data.validate import Checks
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task
from tasks.training.evaluate import Evaluation
from tasks.training.tune import Tuned

NEW_CLASSES = "## Labels of classes that the champion does not know"

TOP = 10
"""Features listed with their distance, the farthest first."""

logger = logging.getLogger(__name__)


def evaluation_markdown(
    model: Model,
    evaluation: Evaluation,
    calibration: Calibration,
    new_classes: tuple[NewClass, ...] = (),
    tuned: Tuned | None = None,
) -> str:
    """What a version was trained on and how good it is, as a page."""
    card, metrics = model.card, evaluation.metrics.values
    bounds = [(signal.label, calibration.bounds[signal.name]) for signal in SIGNALS if signal.name in calibration.bounds]
    warning = missing_bounds_warning(card.spec, calibration)
    calibrated = [(row.predicted, row.observed, row.rows) for row in evaluation.calibration]
    slices = [(one.column, one.value, one.metrics.rows, *map(one.metrics.values.get, metrics)) for one in evaluation.slices]
    parts = [
        f"# {card.name} version {card.version}",
        f"Trained on {card.data.rows:,} rows from {card.data.since:%Y-%m-%d} to {card.until:%Y-%m-%d %H:%M}, "
        f"{card.rounds} rounds, because: {card.cause.kind}. {card.cause.detail}".rstrip(),
        f"## The newest rows, by its judge: the same recipe fitted to the rows before {card.judged_since:%Y-%m-%d %H:%M}"
        if card.judged_since
        else "## Test rows",
        markdown_table(("metric", "value"), [("rows", evaluation.metrics.rows), *metrics.items()]),
        "## Calibration",
        markdown_table(("predicted", "observed", "rows"), calibrated),
        *(["## Slices", markdown_table(("column", "value", "rows", *metrics), slices)] if slices else []),
        "## Bounds of the monitor's signals",
        markdown_table(("signal", "bound"), bounds) if bounds else "None could be calibrated.",
        *([f"**Warning**: {warning}."] if warning else []),
        *_new_classes(new_classes),
        *_learners(card.learner, tuned),
        "## Parameters",
        markdown_table(("parameter", "value"), list(card.params.items())),
    ]
    return "\n\n".join(parts)


def verdict_markdown(model: Model, verdict: Verdict) -> str:
    """What the gate decided about a version, and on what."""
    rows: list[tuple[Any, ...]] = [("challenger", model.card.version, verdict.challenger)]
    if verdict.champion_version is not None:
        rows.append(("champion", verdict.champion_version, verdict.champion))
    head = f"# {verdict.decision.upper()}: {model.card.name} version {model.card.version}"
    kept = [(one.name, "broken" if one.broken else "kept", one.broken) for one in verdict.guardrails]
    guardrails = ["## Guardrails", markdown_table(("guardrail", "", "what is wrong"), kept)] if kept else []
    table = markdown_table(("model", "version", verdict.metric), rows)
    return "\n\n".join([head, verdict.reason, table, *guardrails, *_new_classes(verdict.new_classes)])


def _new_classes(found: tuple[NewClass, ...]) -> list[str]:
    rows = [(one.name, one.rows, "yes" if one.learnt else "no", one.similar) for one in found]
    return [NEW_CLASSES, markdown_table(("class", "rows", "learnt", "probably a misspelling of"), rows)] if rows else []


def _learners(chosen: str, tuned: Tuned | None) -> list[str]:
    """The learners that were compared, if any were."""
    if tuned is None or not tuned.compared:
        return []
    rows = [(one.learner, one.score, len(one.trials), one.failure) for one in tuned.compared]
    head = ("learner", f"{tuned.compared[0].metric} over the folds", "trials", "what went wrong")
    return ["## Learners compared", markdown_table(head, rows), f"`{chosen}` was chosen; retrainings keep it."]


def checks_markdown(checks: Checks) -> str:
    """What validation found."""
    repeated = f"{checks.repeated:,} as another in every column, " if checks.repeated else ""
    head = f"{checks.rows:,} rows, {checks.bad_rows:,} bad, {repeated}{checks.unlabelled:,} without a label."
    found = [f"- {one}" for one in (*checks.problems, *checks.odd, *checks.joins)]
    where = [f"The bad rows are in `{checks.quarantine}`."] if checks.quarantine else []
    where += [f"The values that were read as null are in `{checks.odd_values}`."] if checks.odd_values else []
    return "\n\n".join(["# Data checks", head, *(["\n".join(found)] if found else []), *where])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; numbers to five digits."""
    texts = [[f"{one:.5g}" if isinstance(one, float) else "" if one is None else str(one) for one in row] for row in rows]
    cells = [[text.replace("|", "\\|") for text in row] for row in texts]
    lines = [" | ".join(row) for row in (columns, ["---"] * len(columns), *cells)]
    return "\n".join(f"| {line} |" for line in lines)


def window_markdown(result: WindowResult) -> str:
    """What was found in a window, against which bounds, and what follows."""
    findings = result.findings
    signals = [(one.label, findings.values.get(one.name), findings.bounds.get(one.name)) for one in findings.shown]
    metrics = list(result.metrics.values.items()) if result.metrics else []
    farthest = sorted(result.distances.items(), key=lambda item: -item[1])[:TOP]
    page = Path(result.report).parents[1] / PAGE if result.report else None
    nulls, unknown = list(findings.null_increases.items()), list(findings.unknown_labels.items())
    parts = [
        f"# {result.model}: {findings.window}",
        f"**{result.decision.kind}**: {result.decision.reason}",
        f"{findings.rows:,} rows, {findings.labelled:,} labelled, judged for version {result.version}.",
        *([f"**Diagnosis**: {result.diagnosis}."] if result.diagnosis else []),
        *_estimate_parts(findings),
        *(_account_parts(result.account) if result.account else []),
        *([f"{findings.asked_again:,} rows have an id that was asked about more than once."] if findings.asked_again else []),
        *([f"Of {findings.contradicted:,} rows an earlier label said otherwise."] if findings.contradicted else []),
        markdown_table(("signal", "value", "bound"), signals),
        *(["## Metrics", markdown_table(("metric", "value"), metrics)] if metrics else []),
        "## Farthest features",
        markdown_table(("feature", "distance"), farthest),
        *([NEW_CLASSES, markdown_table(("class", "rows"), unknown)] if unknown else []),
        *(["## Risen null shares", markdown_table(("column", "rise"), nulls)] if nulls else []),
        *([f"Event `{result.decision.event_id}`."] if result.decision.event_id else []),
        *([f"Report: [{result.report}](file://{result.report})"] if result.report else []),
        *([f"Page of the model: [{page}](file://{page})"] if page else []),
    ]
    return "\n\n".join(parts)


def _estimate_parts(findings: Findings) -> Iterator[str]:
    """What the champion's confidence expects, beside what came; and the base rate beside the mean score."""
    expected, loss = findings.expected_loss, findings.values.get("loss")
    if expected is not None:
        truth = (
            f"over the {findings.labelled:,} labels that have come it is {loss:.4g}" if loss is not None else "no label has come"
        )
        yield f"By the champion's own confidence a loss of {expected:.4g} was to be expected; {truth}."
    if findings.means is not None:
        yield "Mean of the labels {:.4g}, of the same rows' scores {:.4g}.".format(*findings.means)


def _account_parts(account: AccountStatement) -> list[str]:
    """Champion beside challenger and predecessor on the same rows, and what that sums to."""
    others = {account.evidence: account.newest, "predecessor": account.predecessor}
    rows = [
        (who, one.version, str(one.window), one.rows, one.champion_loss, one.other_loss, _with_error(one.difference))
        for who, one in others.items()
        if one is not None
    ]
    head = ("compared with", "version", "window", "rows", f"loss of version {account.champion}", "its loss", "excess")
    said = [f"{account}; {account.expected:.3g} expected of the next window.".capitalize()]
    said += [f"Version {account.champion}: {account.truth()}."] if account.truth() else []
    if account.champion_better is not None:
        said.append(f"P(version {account.champion} is better than its predecessor) = {account.champion_better:.2g}.")
    if account.unlabelled:
        said.append(f"The labels of {account.unlabelled} windows have not come.")
    return ["## Account", " ".join(said), *([markdown_table(head, rows)] if rows else [])]


def _with_error(difference: ExcessLoss) -> str:
    return f"{difference.excess:+.2%} ± {difference.error:.2%}"


@local_task("show checks")
def show_checks(job: Job, checks: Checks) -> None:
    """The outcome of validation, as an artifact."""
    create_markdown_artifact(checks_markdown(checks), key=f"{job.spec.name}-checks", description="data checks")


@local_task("show trials")
def show_trials(job: Job, tuned: Tuned) -> None:
    """Every trial of the search, as an artifact."""
    named = [(one.learner, trial) for one in tuned.compared for trial in one.trials]
    plain = [(job.spec.learner, trial) for trial in (*tuned.screened, *tuned.trials)]
    of = [(name, {"trial": one.number, "rows": one.rows, "loss": one.loss, **one.params}) for name, one in named or plain]
    table = [{"learner": name, **figures} for name, figures in of]
    rows = f"{tuned.rows:,} rows" if tuned.rows == tuned.known else f"the newest {tuned.rows:,} of {tuned.known:,} rows"
    if tuned.screened:
        rows = f"{rows}, the best of {len(tuned.screened)} on {tuned.screened[0].rows:,}"
    get_run_logger().info("%d trials on %s", sum(one.rows == tuned.rows for _, one in named or plain), rows)
    create_table_artifact(table, key=f"{job.spec.name}-trials", description=f"best loss {tuned.loss:.5g} on {rows}")


@local_task("show evaluation")
def show_evaluation(job: Job, challenger: Challenger, new_classes: tuple[NewClass, ...]) -> None:
    """What a version was trained on and how good its judge is, as an artifact."""
    page = evaluation_markdown(challenger.model, challenger.evaluation, challenger.calibration, new_classes, challenger.tuned)
    create_markdown_artifact(page, key=f"{job.spec.name}-evaluation", description=f"version {challenger.version}")


@local_task("show verdict")
def show_verdict(job: Job, model: Model, verdict: Verdict) -> None:
    """The gate's decision and what it rests on, as an artifact."""
    page = verdict_markdown(model, verdict)
    create_markdown_artifact(page, key=f"{job.spec.name}-gate", description=f"{verdict.decision}: {verdict.reason}")


def show_window(result: WindowResult) -> None:
    """One window as an artifact; the monitor goes on without it when Prefect does not take it."""
    key, said = f"{result.model}-window-{result.window.start:%Y%m%d-%H%M}", f"{result.decision.kind}: {result.decision.reason}"
    try:
        create_markdown_artifact(window_markdown(result), key=key, description=said)
    except Exception as error:  # noqa: BLE001 - whatever the client raises, the window is settled and on disk
        logger.warning("no artifact %s: %s", key, error)
