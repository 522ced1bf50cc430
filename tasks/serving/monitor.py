"""Watch: the monitor's run inside a flow, one artifact per closed window."""

import logging
from datetime import UTC, datetime, timedelta
from functools import partial

from prefect.artifacts import create_markdown_artifact

from monitoring.performance import loss_metric
from monitoring.state import WindowResult
from monitoring.watch import watch
from tasks.job import Job
from tasks.reporting.artifacts import markdown_table

TOP = 10
"""Features listed with their distance, the farthest first."""

logger = logging.getLogger(__name__)


def follow(job: Job, minutes: float) -> None:
    """Read the streams and close windows for `minutes`, telling the Prefect UI about each."""
    watch(
        job.spec,
        job.base,
        job.settings,
        until=datetime.now(UTC) + timedelta(minutes=minutes),
        on_window=partial(show_window, loss_metric(job.spec)),
    )


def show_window(loss: str, result: WindowResult) -> None:
    """One window as an artifact; the monitor goes on without it when Prefect does not take it."""
    key = f"{result.model}-window-{result.start:%Y%m%d-%H%M}"
    try:
        create_markdown_artifact(
            window_markdown(loss, result), key=key, description=f"{result.decision.kind}: {result.decision.reason}"
        )
    except Exception as error:  # noqa: BLE001 - whatever the client raises, the window is settled and on disk
        logger.warning("no artifact %s: %s", key, error)


def window_markdown(loss: str, result: WindowResult) -> str:
    """What was found in a window, against which bounds, and what follows."""
    metrics = result.metrics.values if result.metrics else {}
    bounded = {loss: result.bounds.loss, "auc": result.bounds.auc}
    signals = [
        ("drift", result.drift, result.bounds.drift),
        *((name, value, bounded.get(name)) for name, value in metrics.items()),
    ]
    farthest = sorted(result.distances.items(), key=lambda item: -item[1])[:TOP]
    nulls = list(result.null_increases.items())
    parts = [
        f"# {result.model}: {result.start:%Y-%m-%d %H:%M} to {result.end:%Y-%m-%d %H:%M}",
        f"**{result.decision.kind}**: {result.decision.reason}",
        f"{result.rows:,} rows, {result.labelled:,} labelled, judged for version {result.version}.",
        markdown_table(("signal", "value", "bound"), signals),
        "## Farthest features",
        markdown_table(("feature", "distance"), farthest),
        *(["## Risen null shares", markdown_table(("column", "rise"), nulls)] if nulls else []),
        *([f"Event `{result.decision.event_id}`."] if result.decision.event_id else []),
        *([f"Report: [{result.report}](file://{result.report})"] if result.report else []),
    ]
    return "\n\n".join(parts)
