"""Keeping: processes that are started again when they die, and ended in order when the service ends."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

LOOK = 0.2
"""Seconds between two looks at the processes."""

RESTART_PAUSE = 1.0
"""Seconds before a process is started again: one that dies at once must not take the machine."""

logger = logging.getLogger(__name__)


class Kept:
    """A process that is started again when it dies."""

    def __init__(self, name: str, start: Callable[[], BaseProcess]) -> None:
        self.name = name
        self._start = start
        self._started = time.monotonic()
        self.process = start()

    def look(self) -> None:
        """Start it again when it is dead."""
        if self.process.is_alive() or time.monotonic() < self._started + RESTART_PAUSE:
            return
        logger.error("%s (pid %s) ended with code %s; starting it again", self.name, self.process.pid, self.process.exitcode)
        self._started = time.monotonic()
        self.process = self._start()

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def join(self, deadline: float) -> None:
        """Wait for its end until `deadline`, a monotonic time; then kill it."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            logger.error("%s (pid %s) does not end; killing it", self.name, self.process.pid)
            self.process.kill()
            self.process.join(1)


def keep(processes: Sequence[Kept], alive: Callable[[], bool], stop: threading.Event) -> int:
    """Keep the processes until `stop` (0), or until `alive` says that what they share is gone (1)."""
    while not stop.wait(LOOK):
        if not alive():
            logger.error("the queues' process died; the service ends, so that whoever supervises it starts it afresh")
            return 1
        for process in processes:
            process.look()
    return 0


def join_all(processes: Sequence[Kept], patience: float) -> None:
    """Wait `patience` seconds for all of them together."""
    deadline = time.monotonic() + patience
    for process in processes:
        process.join(deadline)
