"""Monitor: read the streams, and labels from where the spec says; close windows, request a retraining when it pays."""

from datetime import UTC, datetime, timedelta

from prefect import flow

from monitoring.watch import watch
from tasks.data.label_source import label_source
from tasks.hooks import report_failure, run_name
from tasks.job import open_job
from tasks.reporting.artifacts import show_window


@flow(name="monitor", flow_run_name=run_name, on_failure=[report_failure])
def monitor(spec: str, minutes: float = 5) -> None:
    """Work through everything there is, then follow the streams until `minutes` are over; each closed window is an artifact."""
    job = open_job(spec)
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    watch(job.spec, job.base, job.settings, until=until, on_window=show_window, labels=label_source(job))
