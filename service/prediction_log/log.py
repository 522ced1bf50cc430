"""The prediction log: the request path appends to a bounded backlog in memory; two threads keep what is in it.

The writer brings it to the store. The keeper brings it to the spool on disk when the store does not take it in time, so that
neither a store that is away nor one that is frozen is waited for. Everything has a position, and the store says up to which
one it has the rows: whatever both threads did with an entry, it is in the stream once.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perennial.error_reporting import report
from perennial.errors import PredictionsLost, StoreUnreachable
from perennial.record import PredictionBatch, encode_prediction_batch
from service.errors import unavailable
from service.prediction_log.buffer import Backlog, Entry
from service.prediction_log.disk_queue import Spool
from service.prediction_log.progress_file import open_ledger
from service.prediction_log.publisher import Ferry
from service.prediction_log.recovery import Estate, find_estates
from service.prediction_log.redis_client import connect

CAPACITY = 64 * 1024 * 1024
"""Bytes that wait in memory: seconds of the largest requests, while the disk is slow or full."""

CHUNK = 1024 * 1024
"""Bytes in one round trip: it takes the store milliseconds."""

LINGER = 0.01
"""Seconds a row may wait for company: a round trip for each request would cost more than the prediction."""

GRACE = 0.1
"""Seconds after which a row that the store has not taken goes to the spool: far above a healthy store's, felt by nobody."""

STORE_PATIENCE = 1.0
"""Seconds for an answer of the store; a request never waits for it, the writer does."""

PATIENCE = 2.0
"""Seconds a request waits at most for room in memory; the keeper makes some as fast as the disk is."""

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
"""Seconds between two tries while the store is away: doubles from the first to the last."""

DISK_PAUSE = 0.25
"""Seconds until a disk that took nothing is tried again."""

SEARCH = 5.0
"""Seconds between two looks for what dead processes left."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogState:
    """How the log stands: batches and bytes in memory, rows in spools, whether store and disk took the last write.

    The rest counts rows since the start: in the stream, spooled, brought in from spools, answered without being logged
    (dropped), and lost by processes that were killed.
    """

    waiting: int
    waiting_bytes: int
    spool_waiting: int
    reached: bool
    spoolable: bool
    written: int
    spooled: int
    replayed: int
    dropped: int
    lost: int

    @property
    def keeper(self) -> Literal["store", "spool", "memory"]:
        """What keeps the rows that are answered now; memory means that a full one drops or refuses."""
        if self.reached and not self.spool_waiting:
            return "store"
        return "spool" if self.spoolable else "memory"


class PredictionLog:
    """One process's log. `append` is called by the request path, `close` once at the end."""

    def __init__(
        self,
        url: str,
        model: str,
        spool: Path,
        *,
        full: Literal["fail", "count"] = "count",
        observe: Callable[[LogState], None] = lambda _: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._url = url
        self._model = model
        self._directory = spool
        self._full = full
        self._observe = observe
        self._store = connect(url, patience=STORE_PATIENCE)
        self._ledger = open_ledger(spool)
        self._spool = Spool(spool, self._ledger.source)
        self._ferry = Ferry(self._store, url, model, self._ledger.source)
        self._ferry.stored = 0
        self._backlog = Backlog(capacity, self._note)
        self._estates: list[Estate] = []
        self._searched = float("-inf")
        self._reached = self._spoolable = True
        self._dropping = False
        self._written = self._spooled = self._replayed = self._dropped = self._lost = 0
        self._observing = threading.Lock()
        self._closing, self._stop = threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._write, name="prediction-log-writer", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="prediction-log-keeper", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._keeper.start()

    @property
    def has_room(self) -> bool:
        """Whether `append` would return at once."""
        return self._backlog.size()[1] < CAPACITY // 2

    def append(self, batch: PredictionBatch, _size: int = 0) -> None:
        """Hand over a batch; waits at most PATIENCE for room. Raises ServiceError (503) when there is none."""
        if self._closing.is_set():
            raise unavailable("ending", "the service is ending; ask another one, or try again")
        rows = len(batch.ids)
        if not self._backlog.put(encode_prediction_batch(batch), rows, PATIENCE if self._spoolable else 0):
            self._drop(rows)

    def state(self) -> LogState:
        """What the log holds and did."""
        waiting, size = self._backlog.size()
        return LogState(
            waiting=waiting,
            waiting_bytes=size,
            spool_waiting=self._spool.waiting + sum(estate.waiting for estate in self._estates),
            reached=self._reached,
            spoolable=self._spoolable,
            written=self._written,
            spooled=self._spooled,
            replayed=self._replayed,
            dropped=self._dropped,
            lost=self._lost,
        )

    def close(self, patience: float) -> int:
        """Bring everything to the store or the spool within `patience` seconds; returns how many batches are in neither."""
        deadline = time.monotonic() + patience
        self._closing.set()
        self._backlog.close()
        if self._writer.is_alive():
            self._backlog.wait_empty(patience)
            self._stop.set()
            for thread in (self._keeper, self._writer):
                thread.join(max(0.0, deadline - time.monotonic()))
        left, _ = self._backlog.size()
        if left:
            logger.error("the prediction log closed with %d batches that neither store nor disk took", left)
        self._leave(left)
        return left

    def _note(self, position: int) -> None:
        self._ledger.answered = position

    def _drop(self, rows: int) -> None:
        if self._full == "fail":
            raise unavailable(
                "log_full", "the prediction log is full: store and disk take nothing; start the store or free the disk"
            )
        if not self._dropping:
            error = PredictionsLost("store, memory and disk take no more predictions: they are answered, counted and not logged")
            logger.error("%s", error)
            report(error, group=("service", "predictions-dropped"))
        self._dropping = True
        self._dropped += rows

    def _leave(self, left: int) -> None:
        if self._writer.is_alive():
            return  # it hangs in the store: the process ends, and the next one takes over what it left
        self._spool.close()
        if left or self._spool.waiting:
            self._ledger.close()
            return
        self._ledger.remove()
        if self._reached:
            try:
                self._ferry.finish()
            except StoreUnreachable:
                logger.debug("the mark of %s stays until it expires", self._ledger.source)

    def _write(self) -> None:
        """The writer's thread."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._write_some()
                pause = FIRST_PAUSE
            except StoreUnreachable as error:
                self._lost_sight(error)
                self._wait_for_store(pause)
                pause = min(2 * pause, LAST_PAUSE)
            except Exception as error:
                # The outermost place of the thread: without it every later prediction would go to the disk for good.
                logger.exception("the prediction log's writer failed; it goes on")
                report(error, group=("service", "log-writer"))
                self._stop.wait(LAST_PAUSE)
            self._tell()

    def _write_some(self) -> None:
        self._search()
        if not self._reached:
            self._ferry.probe()
        elif not self._spool.waiting and not self._estates and not self._await_entries(LINGER):
            return
        if chunk := self._spool.oldest(CHUNK) or self._backlog.oldest(CHUNK):
            self._settle(self._ferry.carry(chunk))
        if self._estates:
            self._settle_estate(self._estates[0])
        if not self._reached:
            logger.info("the store is back; %d rows wait in the spool", self._spool.waiting)
        self._reached = self._spoolable = True

    def _await_entries(self, linger: float) -> bool:
        """Wait for entries and then for others to join them; False when there is none after a while, or the end has come."""
        if self._backlog.wait(SEARCH):
            self._closing.wait(linger)
            return True
        if self._closing.is_set():
            self._stop.wait(FIRST_PAUSE)
        return False

    def _settle(self, position: int) -> None:
        """The store has our rows up to a position."""
        self._backlog.drop(position)
        self._replayed += self._spool.forget(position)
        self._ledger.kept = max(self._ledger.kept, position)
        self._written = max(self._written, position)
        self._dropping = False
        if self._ferry.lost:
            self._count_lost(self._ferry.lost, "the store had them and has them no more")
            self._ferry.lost = 0

    def _settle_estate(self, estate: Estate) -> None:
        try:
            rows = estate.settle(CHUNK)
        except OSError as error:
            self._estates.remove(estate)  # its files cannot be read now: the next process tries again
            logger.exception("what a dead process left cannot be taken over")
            report(error, group=("service", "estate-unreadable"))
            return
        if rows is not None:
            self._replayed += rows
            return
        self._estates.remove(estate)
        if estate.lost:
            self._count_lost(estate.lost, f"their process (log {estate.source}) was killed before they were written")

    def _search(self) -> None:
        now = time.monotonic()
        if now - self._searched >= SEARCH:
            self._searched = now
            self._estates += find_estates(self._directory, self._store, self._url, self._model)

    def _count_lost(self, rows: int, reason: str) -> None:
        self._lost += rows
        error = PredictionsLost(f"up to {rows} answered predictions of {self._model} are in no log: {reason}")
        logger.error("%s", error)
        report(error, group=("service", "predictions-lost"))

    def _wait_for_store(self, pause: float) -> None:
        # The end of the service does not wait for a store that is away.
        if not self._closing.wait(pause):
            return
        self._stop.wait(FIRST_PAUSE)

    def _keep(self) -> None:
        """The keeper's thread."""
        while not self._stop.is_set():
            if self._await_entries(0):
                self._backlog.full.wait(GRACE if self._reached else LINGER)
                self._spool_overdue()

    def _spool_overdue(self) -> None:
        age = GRACE if self._reached and not self._backlog.full.is_set() else 0.0
        if not (overdue := self._backlog.older_than(age, CHUNK)):
            return
        try:
            self._spooled += self._to_disk(overdue)
        except OSError as error:
            self._lost_disk(error)
            self._stop.wait(DISK_PAUSE)
            return
        self._spoolable = True
        self._ledger.kept = max(self._ledger.kept, overdue[-1].end)
        self._backlog.drop(overdue[-1].end)
        self._tell()

    def _to_disk(self, entries: Sequence[Entry]) -> int:
        if not self._ledger.on_disk:
            raise OSError("there was no room for a ledger when the process started, so nobody could take a spool over")
        return self._spool.write(entries)

    def _tell(self) -> None:
        with self._observing:
            self._observe(self.state())

    def _lost_sight(self, error: StoreUnreachable) -> None:
        if self._reached:  # once per absence, not once per try
            logger.warning("predictions go to the spool in %s: %s", self._directory, error)
            report(error, group=("service", "store-unreachable"))
        self._reached = False

    def _lost_disk(self, error: OSError) -> None:
        if self._spoolable:
            logger.error("the spool in %s takes nothing (%s); predictions wait in memory", self._directory, error)
            report(error, group=("service", "spool-unwritable"))
        self._spoolable = False
