"""The embedded Prefect worker: `prefect worker start`, whose runs find a process that has imported everything already.

    python -m deployments.stack.prefect_worker --pool POOL --type process --name local

A run costs its worker a process whose imports take two to three seconds of a core. So the worker keeps one process of the
kind in `deployments.stack.standby_process`, a child of its own like every run, and hands it the next one: everything else is
Prefect's. The next standby is started a while after a run, so that its imports do not slow that run down. A run starts in a
new process, as it would with `PERENNIAL_STANDBY=false`, where none stands by, where its environment or directory is another one,
and where our code has changed since. A thread of it ends what a killed worker has left.
"""

import asyncio
import json
import logging
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from deployments.deploy import POOL
from deployments.namesakes import OWN_PACKAGES
from deployments.stack.lost_runs import start_watching_runs
from perennial.settings import load_settings

COMMAND = (sys.executable, "-m", "deployments.stack.prefect_worker")
RUN_COMMAND = [sys.executable, "-m", "prefect.engine"]
"""What a deployment's job variables say: naming the interpreter saves a process that would only look where the code is."""

STANDBY_COMMAND = [sys.executable, "-m", "deployments.stack.standby_process"]

CALM = timedelta(seconds=5)
"""From the start of a run to that of the next standby: a training of a small table takes as long."""

OF_THE_RUN = "PREFECT__"
"""Prefix of the variables that are about one run; all others are those of the worker, as a standby has them."""

OpenProcess = Callable[..., AbstractAsyncContextManager[Any]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standby:
    """A process that waits for a run, what it was started with, and what ends it; `code` is the newest change that it knows."""

    process: Any
    environment: Mapping[str, str]
    directory: Path
    code: float
    resources: AsyncExitStack = field(repr=False)


class StandbyStarter:
    """Opens processes in the place of `prefect.utilities.processutils.open_process`; one event loop uses it."""

    def __init__(self, open_process: OpenProcess, calm: timedelta = CALM) -> None:
        self._open, self._calm = open_process, calm
        self._standby: Standby | None = None
        self._preparing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open_process(self, command: list[str], **options: Any) -> AsyncIterator[Any]:
        """A process of a command while the block lasts: the standby where it fits, else a new one."""
        if command != RUN_COMMAND:
            async with self._open(command, **options) as process:
                yield process
            return
        standby = await self._take(options)
        self._prepare_later()
        async with standby.resources if standby else AsyncExitStack() as resources:
            yield standby.process if standby else await resources.enter_async_context(self._open(command, **options))

    async def _take(self, options: Mapping[str, Any]) -> Standby | None:
        """The standby with its run, if it may carry it out. One that may not is ended."""
        standby, self._standby = self._standby, None
        if standby is None:
            return None
        try:
            if fits(standby, options):
                await standby.process.stdin.send(json.dumps(options["env"]).encode() + b"\n")
                return standby
        except Exception as error:  # noqa: BLE001 - whatever the transport raises, the run can start in a new process
            log.warning("the standby process took no run: %s", error)
        await standby.resources.aclose()
        return None

    def _prepare_later(self) -> None:
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.get_running_loop().create_task(self.prepare())

    async def prepare(self) -> None:
        """Start the next standby after a while, unless one stands by."""
        await asyncio.sleep(self._calm.total_seconds())
        if self._standby is None:
            environment, directory, code, resources = run_environment(), Path.cwd(), newest_change(), AsyncExitStack()
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            opened = self._open(STANDBY_COMMAND, env=environment, cwd=directory, **pipes)
            self._standby = Standby(await resources.enter_async_context(opened), environment, directory, code, resources)


def fits(standby: Standby, options: Mapping[str, Any]) -> bool:
    """Whether a run with these options of `open_process` may be carried out by a standby."""
    return (
        standby.process.returncode is None
        and set(options) == {"stdout", "stderr", "env", "cwd"}
        and options["stdout"] == options["stderr"] == subprocess.PIPE
        and Path(options["cwd"] or ".").resolve() == standby.directory
        and _lasting(options["env"]) == _lasting(standby.environment)
        and newest_change() == standby.code
    )


def run_environment() -> dict[str, str]:
    """What Prefect gives a run beyond the variables that are about it: the worker's environment and its settings."""
    from prefect.settings import get_current_settings

    return {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}


def newest_change() -> float:
    """When the newest file of our packages came: a process that has imported older ones is not used."""
    root = Path(__file__).parents[2]
    return max(path.stat().st_ctime for name in OWN_PACKAGES for path in (root / name).rglob("*.py"))


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OF_THE_RUN)}


def main() -> None:
    """`prefect worker start` with the arguments given."""
    if load_settings(os.environ).standby:
        from prefect.utilities import processutils

        processutils.open_process = StandbyStarter(processutils.open_process).open_process
    start_watching_runs(POOL, os.environ, threading.Event())
    sys.argv = ["prefect", "worker", "start", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
