"""The heir: takes over what dead processes of the same model left in the spool, and counts what a kill has cost.

A process that was killed leaves a ledger (how far it had answered), the store's mark (how far the store has its rows) and
perhaps a spool. The spool is brought in; what is then still missing was lost.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import redis

from service.prediction_log.disk_queue import Spool
from service.prediction_log.progress_file import Ledger, take_dead
from service.prediction_log.publisher import Ferry

logger = logging.getLogger(__name__)


class Estate:
    """What one dead process left; its ledger is locked, so it is ours alone."""

    def __init__(self, ledger: Ledger, spool: Spool, ferry: Ferry) -> None:
        self.source = ledger.source
        self._ledger = ledger
        self._spool = spool
        self._ferry = ferry
        self._asked = False
        self.lost = 0
        """Rows that were answered and are nowhere; known when it is settled."""

    @property
    def waiting(self) -> int:
        """Rows in its spool."""
        return self._spool.waiting

    def settle(self, limit: int) -> int | None:
        """Bring in some `limit` bytes of it; returns the rows that were, None when all is done. Raises StoreUnreachable."""
        if not self._asked:
            self._ferry.ask()
            self._spool.forget(self._ferry.stored or 0)
            self._asked = True
        if chunk := self._spool.oldest(limit):
            return self._spool.forget(self._ferry.carry(chunk))
        self._close()
        return None

    def _close(self) -> None:
        # A store that has forgotten the mark has been emptied or replaced: then the process's own word counts.
        safe = self._ledger.kept if self._ferry.stored is None else self._ferry.stored
        self.lost = self._ferry.lost + max(0, self._ledger.answered - safe)
        self._ferry.finish()
        self._spool.remove()
        self._ledger.remove()


def find_estates(directory: Path, store: redis.Redis, url: str, model: str) -> Iterator[Estate]:
    """The estates in a spool directory that nobody has taken over yet."""
    for ledger in take_dead(directory):
        spool = Spool(directory, ledger.source)
        logger.info("taking over the log of a dead process (%s): %d rows in its spool", ledger.source, spool.waiting)
        yield Estate(ledger, spool, Ferry(store, url, model, ledger.source))
