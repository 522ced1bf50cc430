"""The process worker: how it is started, and how the flow runs it starts begin sooner."""

import shlex
import sys

from deployments.deploy import POOL

NAME = "local"
"""The same name at every start, so that the API shows one worker and not a list of dead ones."""

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
