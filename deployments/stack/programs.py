"""From the stack's value to the programs that run it and the environment they share.

It reads nothing but the DSN of the triage server, so that it can be read and tested.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.deploy import POOL
from deployments.proxies import direct_loopback
from deployments.stack import embedded_redis, prefect_server, prefect_worker, triage
from deployments.stack.state import PREFECT, SERVICE, STORE, TRIAGE, WORKER, Stack, state_dir
from deployments.stack.supervisord import Program
from perennial.learners.declarations import PASSIVE_OPENMP
from perennial.settings import variable

_WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",  # between two looks for work; by default 10
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",  # so that a dead worker is seen as offline within half a minute
}


def stack_programs(stack: Stack) -> tuple[Program, ...]:
    """The programs to supervise; a store or Prefect API that runs elsewhere is not among them."""
    found, directory = [], stack.directory
    if stack.store.port is not None:
        command = embedded_redis.store_command(store_home(stack.home), stack.store.port)
        found.append(Program(name=STORE, command=command, order=10, directory=directory))
    if stack.prefect.port is not None:
        found.append(Program(name=PREFECT, command=prefect_server.COMMAND, order=20, directory=directory))
    if stack.triage_port is not None:
        found.append(triage.program(triage_home(stack.home), TRIAGE, stack.triage_port))
    if stack.service is not None:
        # The list, not the models in it: the service reads it again, and a program that is started otherwise is started anew.
        command = (sys.executable, "-m", "service", "--spec", str(stack.spec_list))
        own, share = {"PERENNIAL_PORT": str(stack.service.port)}, stack.service.challenger_share
        own |= {} if share is None else {variable("challenger_share"): f"{share:g}"}
        found.append(Program(name=SERVICE, command=command, order=30, directory=directory, environment=own))
    # The worker is started when the API answers: before that it could only fail and try again. It creates the pool where it is
    # missing, and has the same name at every start, so that the API shows one worker and not a list of dead ones.
    command = (*prefect_worker.COMMAND, "--pool", POOL, "--type", "process", "--name", "local")
    return (*found, Program(name=WORKER, command=command, order=40, directory=directory, autostart=False))


def environment(stack: Stack, environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with the components' addresses: every program inherits it, so that no file holds a secret."""
    addresses = {"REDIS_URL": stack.store.url, "PREFECT_API_URL": stack.prefect.url, "PERENNIAL_HOME": str(stack.home)}
    addresses |= {} if stack.triage_port is None else {"SENTRY_DSN": triage.read_dsn(triage_home(stack.home))}
    server = {} if stack.prefect.port is None else prefect_server.server_environment(prefect_home(stack.home), stack.prefect.port)
    waiting, value = PASSIVE_OPENMP
    # This interpreter's programs first, whether or not its environment is activated.
    search_path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    own = {**_WORKER_ENVIRONMENT, **server, **addresses, "PATH": search_path}
    return {waiting: value, **environ, **direct_loopback(environ), **own}


def prefect_home(home: Path) -> Path:
    """Prefect's own files: profile, SQLite database, leases."""
    return state_dir(home) / "prefect"


def triage_home(home: Path) -> Path:
    """Bugsink's environment, database and DSN."""
    return state_dir(home) / "triage"


def store_home(home: Path) -> Path:
    """The embedded store's append-only file."""
    return state_dir(home) / "store"
