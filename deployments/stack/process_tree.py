"""What a process and its descendants hold: listening ports, memory now, peak memory sampled in a thread; and whether they live.

Memory is the sum of resident set sizes: pages that processes share count once for each of them, so the figure errs high.
"""

import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import timedelta
from itertools import chain
from threading import Event, Thread

import psutil

LOOK_INTERVAL = timedelta(seconds=0.05)  # between two looks at processes that are to end
SAMPLE_INTERVAL = timedelta(seconds=2)  # a training lasts ten times as long; a sample of 20 processes costs about 10 ms


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs. A zombie has ended: the first process of a container may never read its status."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def wait_ended(processes: Iterable[psutil.Process], timeout: timedelta) -> list[psutil.Process]:
    """Wait for processes to end; returns those that are still alive after `timeout`."""
    deadline, pause, alive = time.monotonic() + timeout.total_seconds(), Event(), list(filter(is_alive, processes))
    while alive and time.monotonic() < deadline:
        pause.wait(LOOK_INTERVAL.total_seconds())
        alive = list(filter(is_alive, alive))
    return alive


def tree_listens(pid: int, port: int) -> bool:
    """Whether a process or one of its descendants is what listens on `port`."""
    for process in process_tree(pid):
        with suppress(psutil.Error):
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in process.net_connections("tcp")):
                return True
    return False


def tree_memory_mb(pids: Iterable[int]) -> float:
    """Megabytes resident now in these processes and their descendants; those that have ended count nothing."""
    sizes: dict[int, int] = {}
    for process in chain.from_iterable(map(process_tree, pids)):
        with suppress(psutil.Error):
            sizes[process.pid] = process.memory_info().rss
    return sum(sizes.values()) / 10**6


class PeakMemory(ExitStack):
    """The largest memory seen of the trees below `pids`, sampled by a thread until the block is left."""

    def __init__(self, pids: Iterable[int]) -> None:
        super().__init__()
        self.mb, self._pids, self._done = 0.0, tuple(pids), Event()
        thread = Thread(target=self._sample, name="peak-memory", daemon=True)
        thread.start()
        self.callback(thread.join)
        self.callback(self._done.set)  # called first

    def _sample(self) -> None:
        self.mb = tree_memory_mb(self._pids)
        while not self._done.wait(SAMPLE_INTERVAL.total_seconds()):
            self.mb = max(self.mb, tree_memory_mb(self._pids))
