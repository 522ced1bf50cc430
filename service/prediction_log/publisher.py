"""The stream publisher: adds one source's entries to the stream, each row once, and knows how far the store is.

The store keeps a mark per source, moved in the same step that adds the entries. A try that timed out may have been carried
out, and a frozen store may carry it out later: the next try finds the mark moved, or moves it first, and never do both write
(tests/service/prediction_log/test_log.py freezes a store under a try).
"""

from collections.abc import Sequence
from typing import NamedTuple

import redis

from service.prediction_log.entries import Entry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import append_after, predictions_stream, source_mark


class Published(NamedTuple):
    """The position up to which the store now has everything, and how many rows before it are in no log."""

    position: int
    lost: int


class StreamPublisher:
    """One source's publisher; for one thread. Its methods raise StoreUnreachable."""

    def __init__(self, store: redis.Redis, url: str, model: str, source: str, position: int) -> None:
        self._store, self._url = store, url
        self._stream, self._mark = predictions_stream(model), source_mark(model, source)
        self.position = position  # up to which the store has had everything, as far as is known

    def ping(self) -> None:
        """See whether the store takes commands: less to send than a megabyte that it may not take."""
        with translate_redis_errors(self._url):
            self._store.ping()

    def load_position(self) -> None:
        """Learn from the store how far it is; a store that was emptied or replaced does not know, and changes nothing."""
        with translate_redis_errors(self._url):
            mark = self._store.get(self._mark)
        if mark is not None:
            self.position = int(mark)

    def publish(self, entries: Sequence[Entry]) -> Published:
        """Add entries, without the rows that the store has; the position afterwards may be any, and then nothing was added."""
        before = self.position
        entries = [entry.after(before) for entry in entries if entry.end > before]
        if not entries:
            return Published(before, 0)
        end = entries[-1].end
        with translate_redis_errors(self._url):
            payloads = [entry.payload for entry in entries]
            self.position = append_after(self._store, self._stream, self._mark, before, end, payloads)
        # What lies between the two positions is in no entry: a damaged disk queue had it, or the store, which is now behind.
        return Published(self.position, max(0, entries[0].start - before) if self.position == end else 0)

    def forget_mark(self) -> None:
        """Nothing more will come from this source."""
        with translate_redis_errors(self._url):
            self._store.delete(self._mark)
