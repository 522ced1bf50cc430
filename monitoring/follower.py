"""The follower of one model: its lease, its session, and its turns of reading, archiving, closing windows and reconciling.

What it holds between turns is lost without harm: a follower that left begins again from registry, store and disk. A turn ends
after one window, so that a model with many of them does not keep the others of its fleet waiting.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import redis

from monitoring.closing import close_window
from monitoring.consumer import READ_COUNT, Batch, IngestResult, StreamConsumer
from monitoring.fleet import FollowedModel, LabelSource, MonitorSummary
from monitoring.label_retention import drop_unmatched
from monitoring.lease import Lease, lease_key
from monitoring.ledger import Ledger
from monitoring.loop_figures import note_failing
from monitoring.pause import is_paused
from monitoring.reconciler import Reconciler
from monitoring.revision import revise
from monitoring.session import MonitorSession
from monitoring.showing import show_closed
from monitoring.state import WindowResult
from monitoring.traced_windows import tracing_archival, tracing_closing
from monitoring.trouble import Trouble, clear_trouble, read_trouble, write_trouble
from monitoring.window import Window
from perennial.error_reporting import report, tag
from perennial.errors import PrefectUnreachable
from perennial.model import Model
from perennial.model_loading import load_champion
from perennial.registry import Registry
from perennial.settings import Settings
from service.prediction_log.streams import labels_stream

ROWS_PER_TURN = 100_000
"""Rows aimed at per turn: a few hundred MB while they are decoded, and a second of work."""

FIRST_RETRY, LAST_RETRY = timedelta(seconds=1), timedelta(seconds=30)
"""Waits before an unconfirmed event is sent again, or a model that failed is followed again, doubling."""

Clock = Callable[[], datetime]
ShowWindow = Callable[[WindowResult], None]

log = logging.getLogger(__name__)


class ModelFollower:
    """One model of a run. One thread uses it; the lease is renewed by another."""

    def __init__(self, model: FollowedModel, store: redis.Redis, settings: Settings, on_window: ShowWindow, clock: Clock) -> None:
        self.model, self.name = model, model.spec.name
        self._spec, self._home, self._registry = model.spec, settings.model_home(self.name), Registry(settings.registry_url)
        self._settings, self._on_window, self._clock = settings, on_window, clock
        self.lease, self.consumer = Lease(store, lease_key(self.name)), StreamConsumer(store, self.name)
        self._reconciler = Reconciler(
            self._home, self._registry, self._spec, Ledger(self._home), settings.training_lease, self.model.path
        )
        self.session: MonitorSession | None = None
        self._labels: LabelSource | None = None
        self.summary = MonitorSummary()
        self._count = READ_COUNT // 8
        self._since_close = IngestResult()
        self._pending = True
        self._event_wait, self._event_at = FIRST_RETRY, clock()
        self._trouble = read_trouble(self._home)  # of an earlier run
        self._trouble_wait, self._trouble_at = FIRST_RETRY, clock()

    @property
    def rests(self) -> bool:
        """Whether it is paused, or failed and is not tried again yet."""
        return is_paused(self._home) or (self._trouble is not None and self._clock() < self._trouble_at)

    def ready(self) -> bool:
        """Whether there is a session to take turns with: the lease is held, and there is a champion."""
        if not self.lease.held:
            self.session = None  # another run may have closed windows meanwhile
            return False
        self._note(active=True)
        # Without a champion there is no schema, and nothing was predicted.
        if self.session is None and (champion := self._champion()) is not None:
            self.consumer.ensure_groups()
            self._labels = self.model.open_labels() if self.model.open_labels else None
            self.session, self._pending = self._open(champion), True
        return self.session is not None

    def turn(self, first: Batch | None) -> bool:
        """Read, archive, close a window that is due, reconcile; whether there is more to do at once.

        `first` is what was read already; with None nothing is read.
        """
        assert self.session is not None
        session = self.session
        tag(model=self.name, version=session.model.card.version)
        if self._pending:
            return self._settle_pending(session)
        batch = first + self.consumer.read(self._count) if first is not None else Batch()
        self._ingest(session, batch)
        self._poll_labels(session)
        # Labels sent before the newest predictions were asked must be in before a window is judged.
        more_windows = labels_stream(self.name) not in batch.more and self._close_due(session)
        self._reconcile(session)
        self._recovered()
        session.figures.turn_ended(self._clock(), unconfirmed=self.summary.waiting)
        return bool(batch.more) or more_windows

    def _recovered(self) -> None:
        """A turn went well."""
        if self._trouble is not None:
            log.info("model %s is followed again", self.name)
            clear_trouble(self._home)
            self._trouble, self._trouble_wait = None, FIRST_RETRY
            self._note(failing={})

    def failed(self, error: Exception) -> None:
        """Leave the model for a while: whatever ended its turn concerns it alone. Reported once as long as it stays the same."""
        reason, now = str(error) or type(error).__name__, self._clock()
        if self._trouble is None or self._trouble.reason != reason:
            log.error("model %s cannot be followed: %s", self.name, reason, exc_info=error)
            report(error, group=("monitoring", "model-failed"), model=self.name)
        before = self._trouble or Trouble(since=now, reason=reason, tries=0)
        self._trouble = before.model_copy(update={"reason": reason, "tries": before.tries + 1})
        self._trouble_at, self._trouble_wait = now + self._trouble_wait, min(2 * self._trouble_wait, LAST_RETRY)
        write_trouble(self._home, self._trouble)
        note_failing(self._home)
        self._note(failing={self.name: reason})
        self.leave()

    def leave(self) -> None:
        """Hold neither session nor lease any longer."""
        self.session = None
        self.lease.release()

    def _open(self, champion: Model) -> MonitorSession:
        url = self._settings.archive_url(self.name)
        return MonitorSession(self._spec, self._home, champion, self._clock(), self._registry, self.model.base, url)

    def _settle_pending(self, session: MonitorSession) -> bool:
        """Ingest what dead runs left unacknowledged, before anything that is new."""
        batch = self.consumer.read_pending(self._count)
        self._ingest(session, batch)
        self._pending = bool(batch.entries)
        return True

    def _ingest(self, session: MonitorSession, batch: Batch) -> None:
        if not batch.entries:
            return
        if any(entry.record.version != session.model.card.version for entry in batch.predictions):
            self._update(session)
        with tracing_archival([entry.record for entry in batch.predictions], self._spec, self._home):
            ingested = self.consumer.ingest(batch, session.archive)
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

    def _close_due(self, session: MonitorSession) -> bool:
        """Close the oldest window that is due; whether there are more."""
        due = session.due() if self._clock() >= self._event_at else []
        if not due:
            return False
        self._poll_labels(session, at_once=True)  # what the source knows by now belongs to the window
        self._update(session)
        try:
            self._close(session, due[0])
        except PrefectUnreachable as error:
            self._postpone(error)
            return False
        return len(due) > 1

    def _close(self, session: MonitorSession, window: Window) -> None:
        unreadable = self._since_close.unreadable_share
        judge, now = replace(session.judge_to_close(window), spec_path=self.model.path), self._clock()
        waited = session.state.account.waiting if session.state.account else ()
        with tracing_closing(window, self._home):
            closed = close_window(window, judge, self._spec, session.state, unreadable, now)
        result, account = closed.result, closed.account
        session.record(result, account)
        drop_unmatched(session.archive, self._settings.keep_unmatched_labels, now)
        self._revise(session, window, [one for one in waited if account is None or one not in account.waiting])
        decision = result.decision
        self._since_close, self._event_wait = IngestResult(), FIRST_RETRY
        requests = self.summary.requests + (decision.flow is not None)
        self._note(windows=self.summary.windows + 1, requests=requests, waiting=False)
        log.info("%s, window %s: %s (%s)", self.name, window, decision.kind, decision.reason)
        show_closed(closed, self._home, self._registry, self._settings, self._on_window)

    def _revise(self, session: MonitorSession, closed: Window, booked: Iterable[Window]) -> None:
        """Measure the window before the closed one again, and those whose labels have come in numbers only now."""
        before = Window(start=closed.start - (closed.end - closed.start), end=closed.start)
        for window in {before, *booked}:
            if (revised := revise(window, session.judge(window), self._spec)) is not None:
                found = revised.findings.labelled, revised.diagnosis
                log.info("%s, window %s: measured again with %d labels (%s)", self.name, window, *found)

    def _reconcile(self, session: MonitorSession) -> None:
        """Carry on with decisions that did not come through."""
        closed_until, now = session.state.closed_until, self._clock()
        if due := self._reconciler.due(closed_until, now):
            self._update(session)
            sent = self._reconciler.reconcile(due, session.model.card.version, now)
            self._note(reminders=self.summary.reminders + sent)

    def _update(self, session: MonitorSession) -> None:
        model = self._champion(session.model)
        if model is not None and model is not session.model:
            session.use(model)

    def _champion(self, known: Model | None = None) -> Model | None:
        """The champion now; read again when the alias moved. Raises RegistryError when it cannot be loaded."""
        model = load_champion(self._registry, self.name, self.model.base, known)
        if model is not None and model is not known:
            tag(model=self.name, version=model.card.version)
        return model

    def _postpone(self, error: PrefectUnreachable) -> None:
        if not self.summary.waiting:  # once per absence, not once per try
            report(error, group=("monitoring", "event-unconfirmed"), model=self.name)
        log.warning("%s; sent again in %s, the window stays open", error, self._event_wait)
        self._note(waiting=True)
        self._event_at = self._clock() + self._event_wait
        self._event_wait = min(2 * self._event_wait, LAST_RETRY)

    def _note(self, **changes: object) -> None:
        self.summary = self.summary.model_copy(update=changes)
