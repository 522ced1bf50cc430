"""The supervisor, with real processes: a dead worker is started again, one that hangs is killed first, all end in order."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import pytest

from service.processes import supervisor
from service.processes.supervisor import Heartbeat, SupervisedProcess, end, supervise
from tests.support.waiting import wait_until

PATIENCE = timedelta(seconds=1.5)


def work(heartbeat: Heartbeat) -> None:
    """A worker that beats until it is told to end."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(0.05):
        heartbeat.beat()


def start(heartbeat: Heartbeat) -> BaseProcess:
    process = get_context("spawn").Process(target=work, args=(heartbeat,))
    process.start()
    return process


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RESTART_PAUSE", timedelta())


@contextmanager
def supervised() -> Iterator[SupervisedProcess]:
    process, (stop, told) = SupervisedProcess("worker 0", start, PATIENCE), socket.socketpair()
    thread = threading.Thread(target=supervise, args=([process], stop))
    thread.start()
    try:
        wait_until(lambda: beats(process), 30, "the first beat")
        yield process
    finally:
        told.close()
        thread.join()
        stop.close()
        end([process], timedelta(seconds=10))
    assert not process.process.is_alive()


def beats(process: SupervisedProcess) -> bool:
    return bool(process._heartbeat._last.value)


def test_a_dead_worker_is_started_again() -> None:
    with supervised() as process:
        first = process.process
        first.kill()
        wait_until(lambda: process.process is not first and beats(process), 30, "another to beat")


def test_a_worker_that_hangs_is_killed_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    with supervised() as process:
        first = process.process
        os.kill(first.pid or 0, signal.SIGSTOP)
        stopped = time.monotonic()
        wait_until(lambda: process.process is not first and beats(process), 30, "another to beat")
        assert time.monotonic() - stopped > PATIENCE.total_seconds()
        assert first.exitcode == -signal.SIGKILL
    assert "has hung for" in caplog.text


def test_workers_end_on_request_and_need_no_kill() -> None:
    with supervised() as process:
        ended = process.process
    assert ended.exitcode == 0


def test_a_worker_that_does_not_end_is_killed() -> None:
    process = SupervisedProcess("worker 0", start, PATIENCE)
    wait_until(lambda: beats(process), 30, "the first beat")
    os.kill(process.process.pid or 0, signal.SIGSTOP)
    process.process.terminate()
    process.join(time.monotonic() + 0.2)
    assert process.process.exitcode == -signal.SIGKILL


def test_before_its_first_beat_a_worker_is_not_silent() -> None:
    heartbeat = Heartbeat()
    assert heartbeat.silent_for() == timedelta()
    heartbeat.beat()
    assert timedelta() <= heartbeat.silent_for() < timedelta(seconds=10)
