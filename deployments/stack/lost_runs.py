"""Runs that a killed worker has left behind: the worker that takes its place ends those that no process works on.

A worker that is killed tells nobody of the runs that it had taken and not yet begun, nor of those whose process dies later:
Prefect believes them at work for minutes, and they hold their concurrency slots. Ended as crashed, a monitor run is started again
by its automation and a retraining by the ledger. What the new worker has taken itself is left alone.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil

from deployments.prefect_client import STARTED, FlowRun, PrefectClient
from deployments.stack.process_tree import is_alive
from perennial.errors import PrefectUnreachable

LOOKS, LOOK_INTERVAL = 12, timedelta(seconds=5)
"""A process whose worker has died may die of that a while later, at the first line that nobody reads."""

MESSAGE = "Its worker was killed, and no process works on this run."

log = logging.getLogger(__name__)


def start_ending_lost_runs(pool: str, environ: Mapping[str, str], stop: threading.Event) -> threading.Thread | None:
    """End them in a thread; None where the Prefect server is not the stack's own, for others' processes cannot be looked at."""
    if "PREFECT_SERVER_API_PORT" not in environ:
        return None
    given = (pool, environ["PREFECT_API_URL"], environ, datetime.now(UTC), stop)
    thread = threading.Thread(target=_end_lost_runs, args=given, name="lost-runs", daemon=True)
    thread.start()
    return thread


def _end_lost_runs(pool: str, url: str, environ: Mapping[str, str], began: datetime, stop: threading.Event) -> None:
    looks = 0
    with PrefectClient(url, environ) as api:
        while looks < LOOKS:
            with suppress(PrefectUnreachable):  # a server that was killed, too, is waited for
                end_lost_runs(api, pool, began)
                looks += 1
            if stop.wait(LOOK_INTERVAL.total_seconds()):
                return


def end_lost_runs(api: PrefectClient, pool: str, before: datetime) -> int:
    """End the runs that were taken before a moment and have no process now; returns how many."""
    lost = [run for run in api.pool_runs(pool, STARTED) if _is_lost(run, before)]
    for run in lost:
        log.warning("run %s is marked as crashed: %s", run.name, MESSAGE)
        api.end_run(run.id, "CRASHED", MESSAGE)
    return len(lost)


def _is_lost(run: FlowRun, before: datetime) -> bool:
    """Whether nobody works on a run. One that runs and whose process nobody has told may be at work."""
    if run.state_at is None or run.state_at >= before:
        return False
    if run.process is None:
        return run.state == "PENDING"
    with suppress(psutil.Error):
        return run.process.isdecimal() and not is_alive(psutil.Process(int(run.process)))
    return True
