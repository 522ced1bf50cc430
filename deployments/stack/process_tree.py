"""Peak memory of a tree of processes, sampled: the largest sum of resident set sizes seen.

Shared pages count once per process that holds them, so the figure errs on the high side.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

import psutil

EVERY = 2.0
"""Seconds between samples: a training lasts ten times as long, and a sample of 20 processes costs about 10 ms."""

MB = 2**20


class PeakMemory:
    """Samples, in a thread of its own, the processes that `roots` names and all their descendants."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        self.mb = 0.0
        self._roots = roots
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
            self.mb = max(self.mb, tree_memory(self._roots()) / MB)
            if self._done.wait(EVERY):
                return


def tree_memory(roots: Iterable[int]) -> int:
    """Bytes resident now in these processes and their descendants; those that have ended count nothing."""
    sizes: dict[int, int] = {}
    for root in roots:
        with suppress(psutil.Error):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    sizes[one.pid] = one.memory_info().rss
    return sum(sizes.values())
