"""Monitor: read predictions and labels from the streams, close windows, request a retraining when it pays."""

from datetime import UTC, datetime, timedelta

from prefect import flow

from monitoring.watch import watch
from tasks.check_ins import begin_check_in, end_check_in
from tasks.fleet import open_fleet, require_all_followed
from tasks.hooks import fleet_run_name, outlive_worker, report_failure
from tasks.reporting.artifacts import show_window


@flow(
    name="monitor",
    flow_run_name=fleet_run_name,
    on_running=[outlive_worker, begin_check_in],
    on_completion=[end_check_in],
    on_failure=[report_failure, end_check_in],
    on_crashed=[end_check_in],
)
def monitor(specs: str | list[str], minutes: float = 5) -> None:
    """Follow all models of the specs (files, directories, lists) until `minutes` are over; each closed window is an artifact."""
    fleet = open_fleet(specs)
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    require_all_followed(watch(fleet.read, fleet.settings, until=until, on_window=show_window))
