"""The watch: one run of the monitor. Reads both streams into the log and closes windows, until a deadline.

    watch(spec, spec_base, settings, until=deadline, on_window=show)

One thread does all of it; another renews the lease. A run acquires the lease or stands by, waits for a champion, ingests what
dead runs left pending, and then repeats a turn: read, archive, acknowledge, close the windows that are due, remind.
What is read is acknowledged when it is archived; a window is closed when its event is confirmed. So a run may die anywhere,
and the next one begins where this one was safe (tests/monitoring/test_watch.py crashes it between the steps). A confirmed
event may die with its server: until a retraining has written its receipt, a request to retrain is sent again.
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import redis

from monitoring.archive import Archive
from monitoring.closing import close_window
from monitoring.consumer import READ_COUNT, Batch, IngestResult, StreamConsumer
from monitoring.events import request_event, send
from monitoring.lease import Lease, lease_key
from monitoring.receipts import is_acknowledged
from monitoring.report import prepare
from monitoring.revision import revise
from monitoring.session import MonitorSession
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.error_reporting import report, tag
from perennial.errors import PrefectUnreachable, SettingsError, StoreUnreachable
from perennial.model import Model
from perennial.model_loading import load_champion
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.prediction_log.redis_client import connect, store_unreachable
from service.prediction_log.streams import labels_stream

BLOCK = timedelta(seconds=1)
"""Longest wait for an entry: below the client's timeout, so that a frozen store is an error and not a hang."""

LINGER = timedelta(milliseconds=100)
"""In which entries may gather after the first one came: a write costs 10 ms, however little is in it."""

ROWS_PER_TURN = 100_000
"""Rows aimed at per turn: a few hundred MB while they are decoded, and a second of work."""

POLL = timedelta(milliseconds=500)
"""Between tries for the lease, for the first champion, for a store that is away."""

FIRST_RETRY, LAST_RETRY = timedelta(seconds=1), timedelta(seconds=30)
"""Waits before an unconfirmed event is sent again, doubling; archiving goes on meanwhile."""

Clock = Callable[[], datetime]


class LabelSource(Protocol):
    """Labels that do not come through the stream; `tasks.data.label_source` reads those that a spec names."""

    def poll(self, archive: Archive, texts: tuple[str, ...], now: datetime, *, at_once: bool = False) -> int:
        """Archive what is new, if it is time to look or `at_once`; returns how many labels. Raises ArchiveError alone."""


log = logging.getLogger(__name__)


class MonitorSummary(FrozenModel):
    """What one run did. `active` is false when another monitor held the lease all the time."""

    active: bool = False
    ingested: IngestResult = IngestResult()
    windows: int = 0
    requests: int = 0
    reminders: int = 0
    waiting: bool = False


def watch(
    spec: ModelSpec,
    spec_base: Path,
    settings: Settings,
    *,
    until: datetime,
    on_window: Callable[[WindowResult], None] = lambda _: None,
    clock: Clock = lambda: datetime.now(UTC),
    labels: LabelSource | None = None,
) -> MonitorSummary:
    """Ingest everything there is, then follow both streams until `until`; stands by while another monitor is active.

    `spec_base` is the spec's directory; `on_window` is called with each window once it is closed; `labels` is polled beside
    the stream. Raises StoreUnreachable when the store is still away at the deadline, ArchiveError, RegistryError.
    """
    with closing(Monitor(spec, spec_base, settings, on_window, clock, labels)) as monitor:
        return monitor.run(until)


class Monitor:
    """One run: what it holds between turns is lost without harm."""

    def __init__(
        self,
        spec: ModelSpec,
        spec_base: Path,
        settings: Settings,
        on_window: Callable[[WindowResult], None],
        clock: Clock,
        labels: LabelSource | None = None,
    ) -> None:
        if settings.redis_url is None:
            raise SettingsError("REDIS_URL is not set: give the address of the store that the service writes to")
        self._spec, self._base, self._url = spec, spec_base, settings.redis_url
        self._home, self._registry = settings.model_home(spec.name), Registry(settings.registry_url)
        self._on_window, self._clock, self._labels = on_window, clock, labels
        self._store: redis.Redis = connect(self._url)
        self._consumer = StreamConsumer(self._store, spec.name)
        self._lease = Lease(self._store, lease_key(spec.name))
        self._count = READ_COUNT // 8
        self._since_close = IngestResult()
        self._retry_wait, self._retry_at = FIRST_RETRY, clock()
        self._store_away = False
        self.summary = MonitorSummary()

    def run(self, until: datetime) -> MonitorSummary:
        """Stand by, then follow; again, should the store or the lease be lost before the deadline."""
        done = False
        while not done:
            try:
                done = self._once(until)
            except redis.RedisError as error:
                self._wait_for_store(store_unreachable(self._url, error), until)
        return self.summary

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()

    def _once(self, until: datetime) -> bool:
        while not self._lease.acquire():
            prepare()  # what takes long to import is imported while this run stands by
            if self._clock() >= until:
                return True
            time.sleep(POLL.total_seconds())
        with self._lease.renewing():
            self._store_away = False
            self._note(active=True)
            prepare()
            while (model := self._champion()) is None and self._clock() < until and self._lease.held:
                time.sleep(POLL.total_seconds())  # without a champion there is no schema, and nothing was predicted
            return model is None or self._follow(self._session(model), until)

    def _session(self, model: Model) -> MonitorSession:
        return MonitorSession(self._spec, self._home, model, self._clock(), self._registry, self._base)

    def _follow(self, session: MonitorSession, until: datetime) -> bool:
        """Turns until the deadline and the streams' end; false when the lease was lost on the way."""
        self._consumer.ensure_groups()
        while self._lease.held and (pending := self._consumer.read_pending(self._count)).entries:
            self._ingest(session, pending)
        while self._lease.held:
            late = self._clock() >= until
            batch = self._read(late)
            self._ingest(session, batch)
            self._poll_labels(session)
            # Labels sent before the newest predictions were asked must be in before a window is judged.
            if labels_stream(self._spec.name) not in batch.more:
                self._close_due(session)
            self._remind(session)
            if late and not batch.more:
                return True
        return False

    def _read(self, late: bool) -> Batch:
        batch = self._consumer.read(self._count, None if late else BLOCK)
        if not batch.entries or batch.more or late:
            return batch
        time.sleep(LINGER.total_seconds())
        return batch + self._consumer.read(self._count)

    def _ingest(self, session: MonitorSession, batch: Batch) -> None:
        if not batch.entries:
            return
        if any(entry.record.version != session.model.card.version for entry in batch.predictions):
            self._update(session)
        ingested = self._consumer.ingest(batch, session.archive)
        session.advance(batch, self._clock())
        self._since_close += ingested
        self._note(ingested=self.summary.ingested + ingested)
        self._count = max(1, min(READ_COUNT, ROWS_PER_TURN * batch.entries // max(batch.rows, 1)))

    def _poll_labels(self, session: MonitorSession, *, at_once: bool = False) -> None:
        if self._labels is None:
            return
        texts = session.model.card.label_texts
        if delivered := self._labels.poll(session.archive, texts, self._clock(), at_once=at_once):
            self._note(ingested=self.summary.ingested + IngestResult(labels=delivered))

    def _close_due(self, session: MonitorSession) -> None:
        for window in session.due():
            if self._clock() < self._retry_at:
                return
            self._poll_labels(session, at_once=True)  # what the source knows by now belongs to the window
            self._update(session)
            try:
                self._close(session, window)
            except PrefectUnreachable as error:
                self._postpone(error)
                return

    def _close(self, session: MonitorSession, window: Window) -> None:
        unreadable = self._since_close.unreadable_share
        judge, now = session.judge(window), self._clock()
        waited = session.state.account.waiting if session.state.account else ()
        result, sent, account = close_window(window, judge, self._spec, session.state, unreadable, now)
        session.record(result, sent, account)
        self._revise(session, window, [one for one in waited if account is None or one not in account.waiting])
        decision = result.decision
        self._since_close, self._retry_wait = IngestResult(), FIRST_RETRY
        requests = self.summary.requests + (decision.flow is not None)
        self._note(windows=self.summary.windows + 1, requests=requests, waiting=False)
        log.info("window %s: %s (%s)", window, decision.kind, decision.reason)
        try:
            self._on_window(result)
        except Exception as error:  # the window is closed; how it is shown may fail in any way
            log.exception("window %s could not be shown", window)
            report(error, group=("monitoring", "show-window"), model=self._spec.name)

    def _revise(self, session: MonitorSession, closed: Window, booked: Iterable[Window]) -> None:
        """Measure the window before the closed one again, and those whose labels have come in numbers only now."""
        before = Window(start=closed.start - (closed.end - closed.start), end=closed.start)
        for window in {before, *booked}:
            if (revised := revise(window, session.judge(window), self._spec)) is not None:
                log.info("window %s: measured again with %d labels (%s)", window, revised.findings.labelled, revised.diagnosis)

    def _remind(self, session: MonitorSession) -> None:
        """Send the last request again where nothing shows that it came through; the same id is one event to a living server."""
        last, now = session.state.last_request, self._clock()
        if last is None or not last.reminder_due(now):
            return
        self._update(session)
        request = last.request
        if is_acknowledged(self._home, request.event_id) or request.version != session.model.card.version:
            session.remember(last.model_copy(update={"closed": True}))
            return
        log.warning("no retraining has begun for event %s since %s: it is sent again", request.event_id, last.sent_at)
        try:
            # It occurs now: an event older than a trigger's last one would start nothing.
            send(request_event(request, now))
            self._note(reminders=self.summary.reminders + 1)
        except PrefectUnreachable as error:
            log.warning("%s", error)
        session.remember(last.model_copy(update={"last_sent_at": now}))

    def _update(self, session: MonitorSession) -> None:
        model = self._champion(session.model)
        if model is not None and model is not session.model:
            session.use(model)

    def _champion(self, known: Model | None = None) -> Model | None:
        """The champion now; read again when the alias moved. Raises RegistryError when it cannot be loaded."""
        model = load_champion(self._registry, self._spec.name, self._base, known)
        if model is not None and model is not known:
            tag(model=self._spec.name, version=model.card.version)
        return model

    def _postpone(self, error: PrefectUnreachable) -> None:
        if not self.summary.waiting:  # once per absence, not once per try
            report(error, group=("monitoring", "event-unconfirmed"), model=self._spec.name)
        log.warning("%s; sent again in %s, the window stays open", error, self._retry_wait)
        self._note(waiting=True)
        self._retry_at = self._clock() + self._retry_wait
        self._retry_wait = min(2 * self._retry_wait, LAST_RETRY)

    def _wait_for_store(self, error: StoreUnreachable, until: datetime) -> None:
        if self._clock() >= until:
            raise error
        if not self._store_away:
            log.warning("%s; the monitor waits for it", error)
            report(error, group=("monitoring", "store-unreachable"), model=self._spec.name)
        self._store_away = True
        time.sleep(POLL.total_seconds())

    def _note(self, **changes: object) -> None:
        self.summary = self.summary.model_copy(update=changes)
