"""Artifacts in the Prefect UI: what a run found and decided, readable without any other tool."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from monitoring.calibration import Calibration, missing_bounds_warning
from perennial.metrics import Metrics
from perennial.model import Model
from perennial.signals import SIGNALS
from tasks.data.validate import Checks
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task
from tasks.training.evaluate import Evaluation
from tasks.training.tune import Tuned


def evaluation_markdown(model: Model, evaluation: Evaluation, calibration: Calibration) -> str:
    """What a version was trained on and how good it is, as a page."""
    card = model.card
    bounds = [(signal.label, calibration.bounds[signal.name]) for signal in SIGNALS if signal.name in calibration.bounds]
    warning = missing_bounds_warning(card.spec, calibration)
    return "\n\n".join(
        [
            f"# {card.name} version {card.version}",
            f"Trained on {card.data.rows:,} rows from {card.data.since:%Y-%m-%d} to {card.until:%Y-%m-%d %H:%M}, "
            f"{card.rounds} rounds, because: {card.cause.kind}. {card.cause.detail}".rstrip(),
            "## Test rows",
            markdown_table(("metric", "value"), [*_metric_rows(evaluation.metrics)]),
            "## Calibration",
            markdown_table(
                ("predicted", "observed", "rows"), [(row.predicted, row.observed, row.rows) for row in evaluation.calibration]
            ),
            *_slices(evaluation),
            "## Bounds of the monitor's signals",
            markdown_table(("signal", "bound"), bounds) if bounds else "None could be calibrated.",
            *([f"**Warning**: {warning}."] if warning else []),
            "## Parameters",
            markdown_table(("parameter", "value"), list(card.params.items())),
        ]
    )


def verdict_markdown(model: Model, verdict: Verdict) -> str:
    """What the gate decided about a version, and on what."""
    rows: list[tuple[Any, ...]] = [("challenger", model.card.version, verdict.challenger)]
    if verdict.champion_version is not None:
        rows.append(("champion", verdict.champion_version, verdict.champion))
    head = f"# {verdict.decision.upper()}: {model.card.name} version {model.card.version}"
    return "\n\n".join([head, verdict.reason, markdown_table(("model", "version", verdict.metric), rows)])


def checks_markdown(checks: Checks) -> str:
    """What validation found."""
    head = f"{checks.rows:,} rows, {checks.bad_rows:,} bad, {checks.unlabelled:,} without a label."
    found = [f"- {problem}" for problem in checks.problems]
    where = [f"The bad rows are in `{checks.quarantine}`."] if checks.quarantine else []
    return "\n\n".join(["# Data checks", head, *(["\n".join(found)] if found else []), *where])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; numbers to five digits."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|")


def _metric_rows(metrics: Metrics) -> list[tuple[str, Any]]:
    return [("rows", metrics.rows), *metrics.values.items()]


def _slices(evaluation: Evaluation) -> list[str]:
    if not evaluation.slices:
        return []
    names = tuple(evaluation.metrics.values)
    rows = [
        (one.column, one.value, one.metrics.rows, *(one.metrics.values.get(name) for name in names)) for one in evaluation.slices
    ]
    return ["## Slices", markdown_table(("column", "value", "rows", *names), rows)]


@local_task("show checks")
def show_checks(job: Job, checks: Checks) -> None:
    """The outcome of validation, as an artifact."""
    create_markdown_artifact(checks_markdown(checks), key=f"{job.spec.name}-checks", description="data checks")


@local_task("show trials")
def show_trials(job: Job, tuned: Tuned) -> None:
    """Every trial of the search, as an artifact."""
    table = [{"trial": trial.number, "loss": trial.loss, **trial.params} for trial in tuned.trials]
    create_table_artifact(table, key=f"{job.spec.name}-trials", description=f"best loss {tuned.loss:.5g}")


@local_task("show outcome")
def show_outcome(job: Job, challenger: Challenger, verdict: Verdict) -> None:
    """The evaluation and the gate's decision, as artifacts."""
    page = evaluation_markdown(challenger.model, challenger.evaluation, challenger.calibration)
    create_markdown_artifact(page, key=f"{job.spec.name}-evaluation", description=f"version {challenger.version}")
    page = verdict_markdown(challenger.model, verdict)
    create_markdown_artifact(page, key=f"{job.spec.name}-gate", description=f"{verdict.decision}: {verdict.reason}")
