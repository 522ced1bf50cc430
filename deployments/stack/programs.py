"""From the stack's value to the programs that run it and the environment they share; pure, so that it can be read and tested."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.stack import embedded_redis, prefect_server
from deployments.stack.prefect_worker import worker_command, worker_environment
from deployments.stack.state import Service, Stack, state_dir
from deployments.stack.supervisord import Program
from perennial.learners.declarations import PASSIVE_OPENMP

STORE, PREFECT, WORKER = "store", "prefect", "worker"
"""Names of the components, as `status` shows them."""


def stack_programs(stack: Stack) -> tuple[Program, ...]:
    """The programs to supervise; a store or Prefect API that runs elsewhere is not among them."""
    some = [_store(stack), _prefect(stack), *(_service(stack, service) for service in stack.services), _worker(stack)]
    return tuple(program for program in some if program is not None)


def environment(stack: Stack, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every program: the caller's own, and the addresses of the stack's components.

    It is handed to the supervisor's process and inherited, so that no secret is ever written to a file.
    """
    addresses = {"REDIS_URL": stack.store.url, "PREFECT_API_URL": stack.prefect.url, "PERENNIAL_HOME": str(stack.home)}
    server = {} if stack.prefect.port is None else prefect_server.server_environment(prefect_home(stack.home), stack.prefect.port)
    variable, value = PASSIVE_OPENMP
    return {
        variable: value,
        **environ,
        **worker_environment(),
        **server,
        **addresses,
        "PATH": _search_path(environ),
    }


def prefect_home(home: Path) -> Path:
    """Prefect's own files: profile, SQLite database, leases."""
    return state_dir(home) / "prefect"


def store_home(home: Path) -> Path:
    """The embedded store's append-only file."""
    return state_dir(home) / "store"


def _search_path(environ: Mapping[str, str]) -> str:
    """This interpreter's programs first, whether or not its environment is activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])


def _store(stack: Stack) -> Program | None:
    if stack.store.port is None:
        return None
    command = embedded_redis.store_command(store_home(stack.home), stack.store.port)
    return Program(name=STORE, command=command, order=10, directory=stack.directory)


def _prefect(stack: Stack) -> Program | None:
    if stack.prefect.port is None:
        return None
    return Program(name=PREFECT, command=prefect_server.server_command(), order=20, directory=stack.directory)


def _service(stack: Stack, service: Service) -> Program:
    return Program(
        name=service.program,
        command=(sys.executable, "-m", "service", "--spec", str(service.spec)),
        order=30,
        directory=stack.directory,
        environment={"PERENNIAL_PORT": str(service.port)},
    )


def _worker(stack: Stack) -> Program:
    # Started when the API answers: before that it could only fail and try again.
    return Program(name=WORKER, command=worker_command(), order=40, directory=stack.directory, autostart=False)
