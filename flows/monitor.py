"""Monitor: read predictions and labels from the streams, close windows, request a retraining when it pays."""

from prefect import flow

from tasks.hooks import report_failure, run_name
from tasks.job import open_job
from tasks.serving.monitor import follow


@flow(name="monitor", flow_run_name=run_name, on_failure=[report_failure])
def monitor(spec: str, minutes: float = 5) -> None:
    """Work through everything there is, then follow the streams until `minutes` are over."""
    follow(open_job(spec), minutes)
