"""The process that stands by for the next flow run: when it is used, and that it becomes the run."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.stack import prefect_worker
from deployments.stack.prefect_worker import RUN_COMMAND, Standby, StandbyStarter, fits, newest_change


def options(**environment: str) -> dict[str, Any]:
    """What Prefect opens a run's process with."""
    env = {**prefect_worker.run_environment(), **environment}
    return {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env, "cwd": Path.cwd()}


def standby(returncode: int | None = None) -> Standby:
    process = SimpleNamespace(returncode=returncode)
    return Standby(process, prefect_worker.run_environment(), Path.cwd(), newest_change(), AsyncExitStack())


def test_a_standby_becomes_the_run_in_its_own_process_and_ends_with_the_runs_exit_code() -> None:
    from prefect.utilities import processutils

    async def run() -> None:
        starter = StandbyStarter(processutils.open_process, timedelta())
        await starter.prepare()
        waiting = starter._standby
        assert waiting is not None
        async with starter.open_process(RUN_COMMAND, **options(PREFECT__FLOW_RUN_ID="no id")) as process:
            assert process.pid == waiting.process.pid
            said = b"".join([part async for part in process.stderr])
            assert await process.wait() == 1
        assert b"Invalid flow run id" in said, "it went on as prefect.engine, which reads the run's variables"

    asyncio.run(run())


def test_what_is_no_run_is_opened_as_prefect_opens_it_and_nothing_stands_by_for_it() -> None:
    opened: list[list[str]] = []

    @asynccontextmanager
    async def open_process(command: list[str], **_: Any) -> AsyncIterator[str]:
        opened.append(command)
        yield "a process"

    async def run() -> None:
        starter = StandbyStarter(open_process, timedelta())
        async with starter.open_process(["git", "status"]) as process:
            assert process == "a process"
        assert starter._preparing is None

    asyncio.run(run())
    assert opened == [["git", "status"]]


def test_a_run_whose_variables_alone_are_its_own_fits() -> None:
    assert fits(standby(), options(PREFECT__FLOW_RUN_ID="a run", PREFECT__CONTROL_PORT="1"))


@pytest.mark.parametrize(
    "other",
    [
        options(PERENNIAL_HOME="elsewhere"),
        {**options(), "cwd": os.sep},
        {**options(), "start_new_session": True},
        {**options(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
    ],
    ids=["environment", "directory", "session", "output"],
)
def test_a_run_that_is_to_be_started_otherwise_does_not_fit(other: dict[str, Any]) -> None:
    assert not fits(standby(), other)


def test_a_standby_that_has_died_or_knows_older_code_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not fits(standby(returncode=-9), options())
    older = standby()
    monkeypatch.setattr(prefect_worker, "newest_change", lambda: older.code + 1)
    assert not fits(older, options())
