"""The Prefect worker: a process that polls the work pool and starts one process for each flow run; and the runs of a dead one.

While the stack is down the server goes on believing that what its worker ran still runs. Such runs would hold their concurrency
slots, and a retraining would wait for one whose process is gone, so `up` ends them before it starts the worker.
"""

import shlex
import sys
from datetime import datetime

from deployments.deploy import POOL
from deployments.prefect_client.client import FlowRun, PrefectClient

NAME = "local"
"""The same name at every start, so that the API shows one worker and not a list of dead ones."""

STARTED = ("PENDING", "RUNNING", "CANCELLING")
"""State types of runs that have, or had, a process."""

_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",  # between two looks for work; by default 10
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",  # so that a dead worker is seen as offline within half a minute
}


def worker_command() -> tuple[str, ...]:
    """The command of the worker; it creates the pool where it is missing."""
    return (sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", NAME)


def worker_environment() -> dict[str, str]:
    """Variables of the worker and of its flow runs."""
    return dict(_ENVIRONMENT)


def run_command() -> str:
    """The command of one flow run, for the pool's `command` job variable.

    Naming it saves a process: without it the worker starts one more interpreter only to find out where the code is.
    """
    return f"{shlex.quote(sys.executable)} -m prefect.engine"


def end_crashed_runs(client: PrefectClient, pool: str, now: datetime) -> int:
    """Give a final state to every run whose process is gone; call it only while the pool's worker is down.

    A run of a schedule whose time has passed is cancelled, because the next one does the same; a run that was asked for
    stays scheduled. Returns how many runs were ended.
    """
    started = client.pool_runs(pool, STARTED)
    for run in started:
        client.end_run(run, "CRASHED", "The stack was down: the process of this run is gone.")
    missed = [run for run in client.pool_runs(pool, ("SCHEDULED",)) if _missed(run, now)]
    for run in missed:
        client.end_run(run, "CANCELLED", "The stack was down at the time of this run.")
    return len(started) + len(missed)


def _missed(run: FlowRun, now: datetime) -> bool:
    return run.auto_scheduled and run.expected_start is not None and run.expected_start < now
