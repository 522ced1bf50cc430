"""The ferry: brings one source's entries into the stream, each once.

The store keeps a mark per source, moved in the same step that adds the entries. A try that timed out may have been carried
out, and a frozen store may carry it out later: the next try finds the mark moved, or moves it first, and never do both write.
"""

from collections.abc import Sequence

import redis

from service.prediction_log.buffer import Entry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import append_after, mark_of, predictions_stream


class Ferry:
    """Knows how far the store is with one source. Not for two threads."""

    def __init__(self, store: redis.Redis, url: str, model: str, source: str) -> None:
        self._store = store
        self._url = url
        self._stream = predictions_stream(model)
        self._mark = mark_of(model, source)
        self.stored: int | None = None
        """Position up to which the store has everything; None while it has not said, or has forgotten."""
        self.lost = 0
        """Rows that the store had and has no more, or that a damaged spool no longer holds."""

    def probe(self) -> None:
        """See whether the store takes commands; raises StoreUnreachable. Less to send than a megabyte that it may not take."""
        with translate_redis_errors(self._url):
            self._store.ping()

    def ask(self) -> None:
        """Learn how far the store is; raises StoreUnreachable."""
        with translate_redis_errors(self._url):
            mark = self._store.get(self._mark)
        self.stored = None if mark is None else int(mark)

    def carry(self, entries: Sequence[Entry]) -> int:
        """Add entries; returns the position up to which the store now has everything, which may be any. StoreUnreachable."""
        before, end = self.stored, entries[-1].end
        with translate_redis_errors(self._url):
            at = append_after(self._store, self._stream, self._mark, before, end, [entry.payload for entry in entries])
        if at == end and before is not None:
            self.lost += max(0, entries[0].start - before)
        self.stored = at
        return at

    def finish(self) -> None:
        """Nothing more will come from this source; raises StoreUnreachable."""
        with translate_redis_errors(self._url):
            self._store.delete(self._mark)
