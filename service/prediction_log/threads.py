"""The two threads of a process's prediction logs: one brings rows to the store, the other to disk when the store is slow or away.

There is one of each, whatever the number of models; every log is visited in each of their turns, and gives at most MAX_BYTES in
a turn, so that one model's flood delays another's rows by a round trip. The publisher's thread alone touches the connection to
the store, the logs' publishers (log_publisher.py) and their orphaned logs; the disk thread alone their spoolers (spooler.py). A
log whose entries the store refuses, or whose directory the disk refuses, pauses alone; where the store does not answer a ping
either, all pause, and none of them waits for it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import redis

from perennial.error_reporting import report
from perennial.errors import StoreUnreachable
from service.prediction_log.buffer import Signals
from service.prediction_log.log_publisher import FIRST_PAUSE, LAST_PAUSE, LogPublisher
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.spooler import COMMIT_INTERVAL, GRACE, Spooler

LINGER = timedelta(milliseconds=10)  # of a row, for others to come: a round trip would cost more than its prediction
LONGEST_LINGER = timedelta(milliseconds=50)  # where several logs have rows: each costs a round trip
IDLE_WAIT = timedelta(seconds=5)  # for a first row, before the publisher looks for orphaned logs again
FAILURE_PAUSE = timedelta(seconds=1)  # after an error that is ours

logger = logging.getLogger(__name__)


class LogThread(threading.Thread):
    """Does one turn after another; an error that is ours ends no thread, for then rows would stay where they are for good."""

    def __init__(self, name: str, signals: Signals) -> None:
        super().__init__(name=f"prediction-log-{name}", daemon=True)
        self._signals = signals

    def run(self) -> None:
        while not self._signals.stopped.is_set():
            self._guarded(self._turn)

    def _turn(self) -> None:
        raise NotImplementedError

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the outermost place of the thread, and of one log's part of a turn
            logger.exception("%s failed; it goes on", self.name)
            report(error, group=("service", self.name))
            self._signals.stopped.wait(FAILURE_PAUSE.total_seconds())


class PublisherThread(LogThread):
    """Brings the rows of all logs to the store, those of dead processes too."""

    def __init__(self, store: redis.Redis, url: str, logs: Sequence[LogPublisher], signals: Signals) -> None:
        super().__init__("publisher", signals)
        self._store, self._url, self._logs = store, url, logs
        self._is_away, self._pause = False, FIRST_PAUSE

    def _turn(self) -> None:
        if self._is_away and not self._returned():
            return
        is_idle = not any(log.has_work for log in self._logs) and not self._wait_for_rows()
        for log in self._logs:
            if not self._is_away:
                self._guarded(lambda log=log: self._visit(log, is_idle))  # type: ignore[misc]

    def _visit(self, log: LogPublisher, is_idle: bool) -> None:
        try:
            log.search()
            if log.has_work or log.has_rows:
                log.publish_some()
            elif not is_idle:
                return
            log.on_change()
        except StoreUnreachable as error:
            log.refuse(error)
            if not self._ping():
                self._lose(error)

    def _lose(self, error: StoreUnreachable) -> None:
        """The store does not answer: no log need find that out for itself."""
        self._is_away = True
        for log in self._logs:
            log.refuse(error)
        self._rest()

    def _returned(self) -> bool:
        """Whether the store answers again; afterwards every log is tried at once."""
        if not self._ping():
            self._rest()
            return False
        self._is_away, self._pause = False, FIRST_PAUSE
        for log in self._logs:
            log.retry()
        return True

    def _rest(self) -> None:
        # The end of the service does not wait for a store that is away.
        if self._signals.closing.wait(self._pause.total_seconds()):
            self._signals.stopped.wait(FIRST_PAUSE.total_seconds())
        self._pause = min(2 * self._pause, LAST_PAUSE)

    def _ping(self) -> bool:
        """Whether the store takes commands: less to send than a megabyte that it may not take."""
        try:
            with translate_redis_errors(self._url):
                self._store.ping()
        except StoreUnreachable:
            return False
        return True

    def _wait_for_rows(self) -> bool:
        """Wait for a row and then for others to join it; False when there is none after a while, or the end has come."""
        now = time.monotonic()
        patience = min([IDLE_WAIT.total_seconds(), *(log.again - now for log in self._logs if log.again > now)])
        if self._signals.wait_filled(lambda: any(log.has_rows for log in self._logs), max(0.0, patience)):
            active = sum(log.has_rows for log in self._logs)
            self._signals.closing.wait(min(active * LINGER, LONGEST_LINGER).total_seconds())
            return True
        if self._signals.closing.is_set():
            self._signals.stopped.wait(FIRST_PAUSE.total_seconds())
        return False


class DiskThread(LogThread):
    """Brings rows to the logs' disk queues that the store has not taken in time."""

    def __init__(self, logs: Sequence[Spooler], signals: Signals) -> None:
        super().__init__("disk", signals)
        self._logs = logs

    def _turn(self) -> None:
        if not self._signals.wait_filled(lambda: any(log.has_rows for log in self._logs), IDLE_WAIT.total_seconds()):
            if self._signals.closing.is_set():
                self._signals.stopped.wait(COMMIT_INTERVAL.total_seconds())
            return
        waiting = [log for log in self._logs if log.has_rows]
        pause = GRACE if all(log.is_reached() for log in waiting) else COMMIT_INTERVAL
        is_full = self._signals.full.wait(pause.total_seconds())
        due = [log for log in waiting if log.is_due]
        for log in due:
            self._guarded(lambda log=log: log.spool_some(is_full))  # type: ignore[misc]
        if not due:
            self._signals.stopped.wait(COMMIT_INTERVAL.total_seconds())
