"""The backlog: payloads in memory between the request path and the two threads that keep them; bounded by bytes.

A payload leaves only when it is kept somewhere; whoever keeps it says up to which position.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One payload and the rows it holds, as positions: those after `start`, up to and including `end`."""

    start: int
    end: int
    payload: bytes


class Backlog:
    """Entries in order. Any thread may put, look and drop; `note` hears of each new end before `put` returns."""

    def __init__(self, capacity: int, note: Callable[[int], None]) -> None:
        self._capacity = capacity
        self._note = note
        self._entries: deque[tuple[float, Entry]] = deque()
        self._bytes = 0
        self._end = 0
        self._closed = False
        self._changed = threading.Condition()
        self._freed = threading.Condition(self._changed._lock)  # type: ignore[attr-defined]
        self.full = threading.Event()
        """Set while somebody waits for room."""

    def put(self, payload: bytes, rows: int, patience: float) -> bool:
        """Take a payload in; waits at most `patience` seconds for room, and returns whether there was any."""
        with self._changed:
            if not self._has_room(len(payload)) and not self._wait_for_room(len(payload), patience):
                return False
            entry = Entry(self._end, self._end + rows, payload)
            self._entries.append((time.monotonic(), entry))
            self._bytes += len(payload)
            self._end = entry.end
            self._note(entry.end)
            self._changed.notify_all()
            return True

    def oldest(self, limit: int) -> list[Entry]:
        """The oldest entries: as many as have `limit` bytes, and at least one where there is any."""
        with self._changed:
            return take(((entry, len(entry.payload)) for _, entry in self._entries), limit)

    def older_than(self, age: float, limit: int) -> list[Entry]:
        """The oldest entries among those that have waited for `age` seconds."""
        bound = time.monotonic() - age
        with self._changed:
            return take(((entry, len(entry.payload)) for since, entry in self._entries if since <= bound), limit)

    def drop(self, position: int) -> None:
        """Forget the entries up to `position`: they are kept elsewhere."""
        with self._changed:
            while self._entries and self._entries[0][1].end <= position:
                self._bytes -= len(self._entries.popleft()[1].payload)
            self._freed.notify_all()

    def size(self) -> tuple[int, int]:
        """How many entries wait, and their bytes."""
        with self._changed:
            return len(self._entries), self._bytes

    def wait(self, timeout: float) -> bool:
        """Wait until there is an entry, or for `timeout` seconds, or until the end; returns whether there is one."""
        with self._changed:
            if not self._entries and not self._closed:
                self._changed.wait(timeout)
            return bool(self._entries)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until there is none."""
        with self._changed:
            return self._freed.wait_for(lambda: not self._entries, timeout)

    def close(self) -> None:
        """Nobody waits for entries any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        # An empty backlog takes any payload: a single one may be larger than the capacity.
        return not self._entries or self._bytes + size <= self._capacity

    def _wait_for_room(self, size: int, patience: float) -> bool:
        self.full.set()
        try:
            return self._freed.wait_for(lambda: self._has_room(size), patience)
        finally:
            self.full.clear()


def take(found: Any, limit: int) -> list[Entry]:
    """Entries from pairs of entry and size until `limit` bytes are together; the first one always."""
    taken: list[Entry] = []
    size = 0
    for entry, length in found:
        size += length
        if taken and size > limit:
            break
        taken.append(entry)
    return taken
