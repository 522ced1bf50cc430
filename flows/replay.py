"""Replay: ask the service for predictions of a stretch of the past, in event time, and send the labels when they fell due."""

from prefect import flow

from tasks.hooks import report_failure, run_name
from tasks.job import open_job
from tasks.serving.replay import Sent, replay_table


@flow(name="replay", flow_run_name=run_name, on_failure=[report_failure])
def replay(spec: str, start: str, until: str | None = None, url: str = "http://127.0.0.1:8000", label_delay: str = "1d") -> Sent:
    """Rows from `start` to `until` of the spec's own table, at full speed; fails when a request failed."""
    return replay_table(open_job(spec), start, until, url, label_delay)
