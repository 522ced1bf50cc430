"""Check-ins: a flow run that a schedule started tells Sentry when it begins and how it ends.

Errors tell of runs that failed; check-ins tell of those that never came, or never ended: Sentry knows the schedule from them and
raises an issue when one is missing. Runs that an event or a person started send none. Without a DSN nothing is sent.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from perennial.error_reporting import CheckInStatus, check_in, flush, init_error_reporting
from perennial.errors import PerennialError
from perennial.settings import load_settings
from perennial.spec import load_spec

MONITOR_EVERY = timedelta(minutes=5)
"""The schedule of `monitor`, as prefect.yaml has it."""

LONGEST_SLUG = 50  # characters, as Sentry takes them

Schedule = dict[str, Any]

logger = logging.getLogger(__name__)


def begin_check_in(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's signature
    """A hook for `on_running`."""
    _tell(flow, flow_run, "in_progress")


def end_check_in(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook for every end of a run."""
    _tell(flow, flow_run, "ok" if state.is_completed() else "error")


def _tell(flow: Any, flow_run: Any, status: CheckInStatus) -> None:
    if not flow_run.auto_scheduled:
        return
    try:
        settings = load_settings(os.environ)
        if settings.sentry_dsn is None:
            return
        init_error_reporting(settings, "flow")
        slug, config = _monitor() if flow.name == "monitor" else _training(flow.name, Path(flow_run.parameters["spec"]))
    except PerennialError as error:
        logger.warning("no check-in of %s: %s", flow.name, error)
        return
    check_in(slug, flow_run.id.hex, status, config)
    flush()


def _monitor() -> tuple[str, Schedule]:
    return "monitor", _config(_interval(MONITOR_EVERY), margin=MONITOR_EVERY, longest=3 * MONITOR_EVERY)


def _training(flow: str, path: Path) -> tuple[str, Schedule]:
    """Of one model, by the schedule of its spec."""
    spec = load_spec(path)
    interval = spec.policy.interval
    schedule = _interval(interval) if interval else {"type": "crontab", "value": spec.policy.schedule}
    return f"{flow}-{spec.name}"[:LONGEST_SLUG], _config(schedule, margin=timedelta(hours=1), longest=timedelta(hours=6))


def _interval(every: timedelta) -> Schedule:
    return {"type": "interval", "value": max(1, every // timedelta(minutes=1)), "unit": "minute"}


def _config(schedule: Schedule, margin: timedelta, longest: timedelta) -> Schedule:
    """What Sentry makes its monitor from: how late a run may be, how long it may take; one that fails is no issue yet."""
    minute = timedelta(minutes=1)
    limits = {"checkin_margin": margin // minute, "max_runtime": longest // minute}
    return {"schedule": schedule, "timezone": "UTC", **limits, "failure_issue_threshold": 2, "recovery_threshold": 1}
