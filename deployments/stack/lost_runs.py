"""What Prefect does not do for runs whose worker or server was killed, done by the stack's worker in a thread.

A worker that is killed tells nobody of the runs that it had taken and not yet begun, nor of those whose process dies later:
Prefect believes them at work for minutes, and they hold their concurrency slots. The worker that takes its place ends them as
crashed; what it has taken itself is left alone. A crashed monitor run is started again by its automation, and a retraining by the
ledger. An event that comes while the server starts may reach no automation, so a monitor that has stayed away is started here.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil

from deployments.prefect_client import FLEET, STARTED, FlowRun, PrefectClient
from deployments.stack.process_tree import is_alive
from perennial.errors import PrefectUnreachable

LOOKS, LOOK_INTERVAL = 12, timedelta(seconds=5)
"""Looks for lost runs: a process whose worker has died may die of that a while later, at the first line that nobody reads."""

AUTOMATION_TIME = timedelta(seconds=10)
"""In which the automation starts a monitor again; it takes a second or two."""

MESSAGE = "Its worker was killed, and no process works on this run."

log = logging.getLogger(__name__)


def start_watching_runs(pool: str, environ: Mapping[str, str], stop: threading.Event) -> threading.Thread | None:
    """Do all this until `stop` is set; None where the Prefect server is not the stack's own, which others may use as well."""
    if "PREFECT_SERVER_API_PORT" not in environ:
        return None
    given = (pool, environ["PREFECT_API_URL"], environ, datetime.now(UTC), stop)
    thread = threading.Thread(target=_watch_runs, args=given, name="lost-runs", daemon=True)
    thread.start()
    return thread


def _watch_runs(pool: str, url: str, environ: Mapping[str, str], began: datetime, stop: threading.Event) -> None:
    looks = 0
    with PrefectClient(url, environ) as api:
        while True:
            with suppress(PrefectUnreachable):  # a server that was killed, too, is waited for
                if looks < LOOKS:
                    end_lost_runs(api, pool, began)
                    looks += 1
                restart_crashed(api, "monitor", FLEET, datetime.now(UTC))
            if stop.wait(LOOK_INTERVAL.total_seconds()):
                return


def end_lost_runs(api: PrefectClient, pool: str, before: datetime) -> int:
    """End the runs that were taken before a moment and have no process now; returns how many."""
    lost = [run for run in api.pool_runs(pool, STARTED) if _is_lost(run, before)]
    for run in lost:
        log.warning("run %s is marked as crashed: %s", run.name, MESSAGE)
        api.end_run(run.id, "CRASHED", MESSAGE)
    return len(lost)


def restart_crashed(api: PrefectClient, flow: str, deployment: str, now: datetime) -> bool:
    """Start a deployment whose newest run has crashed a while ago and which no run has followed; whether it was started."""
    newest = api.newest_run(flow, deployment, now)
    if newest is None or newest.state != "CRASHED" or newest.state_at is None or now - newest.state_at < AUTOMATION_TIME:
        return False
    if any(run.state in STARTED for run in api.deployment_runs(flow, deployment)):
        return False
    log.warning("%s %s has crashed and nothing has started the next run: it is started now", flow, newest.name)
    api.start_run(api.deployment_id(f"{flow}/{deployment}"), idempotency_key=f"after {newest.id}")
    return True


def _is_lost(run: FlowRun, before: datetime) -> bool:
    """Whether nobody works on a run. One that runs and whose process nobody has told may be at work."""
    if run.state_at is None or run.state_at >= before:
        return False
    if run.process is None:
        return run.state == "PENDING"
    with suppress(psutil.Error):
        return run.process.isdecimal() and not is_alive(psutil.Process(int(run.process)))
    return True
