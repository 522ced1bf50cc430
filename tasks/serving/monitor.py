"""Watch: the monitor's run inside a flow, one artifact per closed window."""

import logging
from datetime import UTC, datetime, timedelta

from prefect.artifacts import create_markdown_artifact

from monitoring.state import WindowResult
from monitoring.watch import watch
from tasks.job import Job
from tasks.reporting.artifacts import markdown_table

TOP = 10
"""Features listed with their distance, the farthest first."""

logger = logging.getLogger(__name__)


def follow(job: Job, minutes: float) -> None:
    """Read the streams and close windows for `minutes`, telling the Prefect UI about each."""
    watch(job.spec, job.base, job.settings, until=datetime.now(UTC) + timedelta(minutes=minutes), on_window=show_window)


def show_window(result: WindowResult) -> None:
    """One window as an artifact; the monitor goes on without it when Prefect does not take it."""
    key, said = f"{result.model}-window-{result.window.start:%Y%m%d-%H%M}", f"{result.decision.kind}: {result.decision.reason}"
    try:
        create_markdown_artifact(window_markdown(result), key=key, description=said)
    except Exception as error:  # noqa: BLE001 - whatever the client raises, the window is settled and on disk
        logger.warning("no artifact %s: %s", key, error)


def window_markdown(result: WindowResult) -> str:
    """What was found in a window, against which bounds, and what follows."""
    findings = result.findings
    signals = [(one.label, findings.values.get(one.name), findings.bounds.get(one.name)) for one in findings.shown]
    metrics = list(result.metrics.values.items()) if result.metrics else []
    farthest = sorted(result.distances.items(), key=lambda item: -item[1])[:TOP]
    nulls = list(findings.null_increases.items())
    parts = [
        f"# {result.model}: {findings.window}",
        f"**{result.decision.kind}**: {result.decision.reason}",
        f"{findings.rows:,} rows, {findings.labelled:,} labelled, judged for version {result.version}.",
        markdown_table(("signal", "value", "bound"), signals),
        *(["## Metrics", markdown_table(("metric", "value"), metrics)] if metrics else []),
        "## Farthest features",
        markdown_table(("feature", "distance"), farthest),
        *(["## Risen null shares", markdown_table(("column", "rise"), nulls)] if nulls else []),
        *([f"Event `{result.decision.event_id}`."] if result.decision.event_id else []),
        *([f"Report: [{result.report}](file://{result.report})"] if result.report else []),
    ]
    return "\n\n".join(parts)
