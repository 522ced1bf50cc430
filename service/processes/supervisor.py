"""The supervisor: the main process starts the workers, starts a dead one again, and ends all of them in order.

A worker beats: its event loop writes the time into shared memory. One that has not beaten for `patience` is killed and
started again, so that a process that hangs or is stopped holds its clients no longer than that. A worker may be replaced by one
that is started otherwise: the new one answers before the old one is asked to retire, so there is one worker more meanwhile.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

CHECK_INTERVAL = timedelta(seconds=1)  # between two looks for workers that hang; the death of one is seen at once
RESTART_PAUSE = timedelta(seconds=1)  # between two starts of a worker: one that dies at once must not take the machine
HEARTBEAT_POLL = timedelta(seconds=0.05)  # between two looks for the first beat of a worker that replaces another
BEAT_INTERVAL = timedelta(seconds=1)  # between two beats of a worker's event loop

RETIRE = signal.SIGHUP  # asks a worker to accept no more connections, answer what its clients send, and end
REPLACE_TIMEOUT = timedelta(seconds=120)  # for a worker that replaces another to answer; it takes seconds

logger = logging.getLogger(__name__)


class Heartbeat:
    """A monotonic time in memory that a worker shares with its supervisor; the clock is one for all processes of a machine."""

    def __init__(self) -> None:
        self._last: Any = get_context("spawn").RawValue("d", 0.0)

    def beat(self) -> None:
        self._last.value = time.monotonic()

    @property
    def has_begun(self) -> bool:
        """Whether there was a first beat."""
        return bool(self._last.value)

    def silent_for(self) -> timedelta:
        """Since the last beat; zero before the first."""
        return timedelta(seconds=time.monotonic() - self._last.value) if self._last.value else timedelta()


@dataclass(frozen=True)
class WorkerHandle:
    """What a worker process is given: the socket it accepts connections from, and its heartbeat."""

    listener: socket.socket
    heartbeat: Heartbeat


Start = Callable[[Heartbeat], BaseProcess]
"""Starts a worker's process."""


class SupervisedProcess:
    """A worker that is started again when it dies or hangs."""

    def __init__(self, name: str, start: Start, patience: timedelta) -> None:
        self.name, self._start, self._patience = name, start, patience
        self.process: BaseProcess
        self._begin()

    def check(self) -> None:
        """Kill it when it hangs; start it again when it is dead."""
        if self.process.is_alive():
            if (silent := self._heartbeat.silent_for()) > self._patience:
                logger.error("%s (pid %s) has hung for %.1f s; killing it", self.name, self.process.pid, silent.total_seconds())
                self.process.kill()
            return
        if time.monotonic() < self._started + RESTART_PAUSE.total_seconds():
            return
        logger.error("%s (pid %s) ended with code %s; starting it again", self.name, self.process.pid, self.process.exitcode)
        self._begin()

    def replace(self, start: Start, stop: socket.socket, grace: timedelta) -> bool:
        """Put a process that is started otherwise in its place; False, with the old one going on, where that does not come up.

        The old one has `grace` to end, then it is killed. `stop` ends the wait.
        """
        heartbeat = Heartbeat()
        process = start(heartbeat)
        deadline = time.monotonic() + REPLACE_TIMEOUT.total_seconds()
        while not heartbeat.has_begun:
            if wait([stop, process.sentinel], HEARTBEAT_POLL.total_seconds()) or time.monotonic() > deadline:
                logger.error("the process that should replace %s does not come up; the old one goes on", self.name)
                process.kill()
                return False
        old = self.process
        self.process, self._heartbeat, self._start, self._started = process, heartbeat, start, time.monotonic()
        if old.is_alive():
            os.kill(old.pid or 0, RETIRE)
        if wait([stop, old.sentinel], grace.total_seconds()) != [old.sentinel]:
            old.terminate()
        old.join(grace.total_seconds())
        if old.is_alive():
            logger.error("the predecessor of %s (pid %s) does not end; killing it", self.name, old.pid)
            old.kill()
        return True

    def join(self, deadline: float) -> None:
        """Wait for its end until `deadline`, a monotonic time; then kill it."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            logger.error("%s (pid %s) does not end; killing it", self.name, self.process.pid)
            self.process.kill()
            self.process.join(1)

    def _begin(self) -> None:
        self._started, self._heartbeat = time.monotonic(), Heartbeat()
        self.process = self._start(self._heartbeat)


def supervise(processes: Sequence[SupervisedProcess], stop: socket.socket, renew: Callable[[], None] = lambda: None) -> None:
    """Keep the processes alive until `stop` can be read. `renew` is called about once a second, and may replace them."""
    interval = CHECK_INTERVAL.total_seconds()
    while stop not in wait([stop, *(one.process.sentinel for one in processes if one.process.is_alive())], interval):
        for process in processes:
            process.check()
        renew()


def end(processes: Sequence[SupervisedProcess], grace: timedelta) -> None:
    """Ask the processes to end; those that have not ended after `grace` are killed."""
    for process in processes:
        process.process.terminate()
    deadline = time.monotonic() + grace.total_seconds()
    for process in processes:
        process.join(deadline)
