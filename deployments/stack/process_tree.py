"""What a process and its descendants hold: listening ports, memory now, and peak memory sampled in a thread.

Memory is the sum of resident set sizes: pages that processes share count once for each of them, so the figure errs high.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from threading import Event, Thread
from types import TracebackType
from typing import Self

import psutil

SAMPLE_INTERVAL = timedelta(seconds=2)
"""A training lasts ten times as long, and a sample of 20 processes costs about 10 ms."""


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


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
    for process in (process for pid in pids for process in process_tree(pid)):
        with suppress(psutil.Error):
            sizes[process.pid] = process.memory_info().rss
    return sum(sizes.values()) / 10**6


class PeakMemory:
    """The largest memory seen of the trees below `pids`, sampled by a thread until the block is left."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.mb = 0.0
        self._pids = tuple(pids)
        self._done = Event()
        self._thread = Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.mb = max(self.mb, tree_memory_mb(self._pids))
            if self._done.wait(SAMPLE_INTERVAL.total_seconds()):
                return
