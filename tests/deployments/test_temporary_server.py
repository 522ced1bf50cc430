"""A command where no stack runs has a Prefect server of its own, which hears of its end and leaves nothing behind."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deployments.cli import INTERRUPTED
from tests.support.models import write_small
from tests.support.processes import ROOT, python, tail
from tests.support.waiting import wait_until

TRIALS = 100_000
"""Of a search that no test waits for."""


@contextmanager
def training(home: Path) -> Iterator[subprocess.Popen[str]]:
    """`perennial train` in a terminal's process group, in the middle of its search."""
    spec = write_small(home)
    spec.write_text(spec.read_text().replace("trials = 2", f"trials = {TRIALS}"))
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    program = python(
        "-c", "import signal; signal.signal(2, signal.default_int_handler); from deployments.cli import main; main()"
    )
    with subprocess.Popen(
        [*program, "train", str(spec)],
        env={**own, "PERENNIAL_HOME": str(home / "var")},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            log = home / "var" / "stack" / "logs" / "train.log"
            wait_until(lambda: log.exists() and "Finished in state Completed()" in tail(log), 120, "the search to begin")
            yield process
        finally:
            process.kill()


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    (server,) = (one for one in psutil.Process(process.pid).children() if "deployments.temporary_server" in one.cmdline())
    return server


def test_ctrl_c_ends_a_training_at_once_and_the_server_knows(tmp_path: Path) -> None:
    with training(tmp_path) as process:
        server = server_of(process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (INTERRUPTED, "interrupted\n")
    assert "Finished in state Crashed" in tail(tmp_path / "var" / "stack" / "logs" / "train.log")
    server.wait(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_however_a_command_ends_its_server_does(tmp_path: Path, number: signal.Signals) -> None:
    with training(tmp_path) as process:
        server = server_of(process)
        process.send_signal(number)
        assert process.wait(60) == -number
        server.wait(30)
