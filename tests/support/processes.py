"""Starting a real server for a test and ending it with everything it started."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import TextIO

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
"""The directory of the checkout."""


FIRST_PORT = 20_000
"""Below the ports that Linux (32,768) and macOS (49,152) give to clients, above those that stacks and people prefer."""

BLOCK = 200
"""Ports of one test process."""

BLOCKS = 50
"""Test processes that can run on a machine at the same time."""


def free_port() -> int:
    """A loopback port without a listener, from this test process's own block; one that was given comes again 199 ports later."""
    ports, _ = _own_ports()
    port = next(filter(_can_listen, islice(ports, BLOCK)), None)
    assert port, f"all {BLOCK} ports of this test process are taken"
    return port


@cache
def _own_ports() -> tuple[Iterator[int], TextIO]:
    """The ports of a block that no other test process of this machine has, and the lock file that says so until we end."""
    directory = Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-test-ports"
    directory.mkdir(mode=0o700, exist_ok=True)
    for first in range(FIRST_PORT, FIRST_PORT + BLOCK * BLOCKS, BLOCK):
        lock = (directory / str(first)).open("w")
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cycle(range(first, first + BLOCK)), lock
        lock.close()
    raise AssertionError(f"{BLOCKS} test processes run on this machine already")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def python(*args: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *args]


def run_to_end(command: Sequence[str | Path], cwd: Path, environ: Mapping[str, str], timeout: float) -> str:
    """What a command prints, errors among it; fails when the command fails."""
    program = [str(part) for part in command]
    done = subprocess.run(
        program,
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(program)}\nended with {done.returncode}:\n{done.stdout[-4_000:]}"
    return done.stdout


def without_wandb_directories(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment but for where W&B puts its files: that is the home's own affair."""
    return {name: value for name, value in environ.items() if not (name.startswith("WANDB_") and name.endswith("_DIR"))}


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in its own process group, its output in `log`; the group is ended when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd or ROOT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ask the process group to end, insist after `patience` seconds, and reap the leader."""
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    _signal_group(process, signal.SIGKILL)
    process.wait(patience)


def wait_ready(process: subprocess.Popen[bytes], ready: Callable[[], object], log: Path, timeout: float, name: str) -> None:
    """Wait until `ready()` holds; fails at once, with the log's end, when the process has died."""

    def ready_or_dead() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{name} ended with code {process.returncode}:\n{tail(log)}")
        return bool(ready())

    try:
        wait_until(ready_or_dead, timeout, f"{name} to be ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{tail(log)}") from None


def tail(log: Path, size: int = 4_000) -> str:
    """The last characters of a log."""
    return log.read_text(errors="replace")[-size:]


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # the whole group has gone
