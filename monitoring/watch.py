"""The watch: one run of the monitor. Reads both streams into the log and closes windows, until a deadline.

    watch(spec, spec_base, settings, until=deadline, on_window=show)

What is read is acknowledged when it is archived; a window is closed when its event is confirmed. So
a run may die anywhere, and the next one begins where this one was safe. A confirmed event may die with
its server: until a retraining has written its receipt, a request to retrain is told again.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis

from monitoring.archive import FUTURE, Archive
from monitoring.closing import Closed, close_window
from monitoring.events import requested, send
from monitoring.intake import Taken, take
from monitoring.lease import Lease, lease_key
from monitoring.policy import after
from monitoring.reader import COUNT, Batch, Reader
from monitoring.receipts import is_taken
from monitoring.reminder import due
from monitoring.report import prepare
from monitoring.state import MonitorState, Told, WindowResult, load_state, save_state
from monitoring.window import ORIGIN, Window, due_windows, window_at
from perennial.base import FrozenModel
from perennial.error_reporting import report, tag
from perennial.errors import PrefectUnreachable, SettingsError, StoreUnreachable
from perennial.model import Model
from perennial.model_loading import load_champion
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.prediction_log.redis_client import connect, translate_redis_errors
from service.prediction_log.streams import labels_stream

BLOCK = timedelta(seconds=1)
"""Longest wait for an entry: below the client's timeout, so that a frozen store is an error and not a hang."""

LINGER = 0.1
"""Seconds that entries may gather after the first one came: a write costs 10 ms, however little is in it."""

TURN_ROWS = 100_000
"""Rows aimed at per turn: a few hundred MB while they are decoded, and a second of work."""

PAUSE = 0.5
"""Seconds between tries for the lease, for the first champion, for a store that is away."""

FIRST_RETRY, LAST_RETRY = timedelta(seconds=1), timedelta(seconds=30)
"""Waits before an unconfirmed event is told again, doubling; archiving goes on meanwhile."""

Clock = Callable[[], datetime]

log = logging.getLogger(__name__)


class Summary(FrozenModel):
    """What one run did. `active` is false when another monitor held the lease all the time."""

    active: bool = False
    taken: Taken = Taken()
    windows: int = 0
    requests: int = 0
    reminders: int = 0
    waiting: bool = False


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def watch(
    spec: ModelSpec,
    spec_base: Path,
    settings: Settings,
    *,
    until: datetime,
    on_window: Callable[[WindowResult], None] = lambda _: None,
    clock: Clock = utc_now,
) -> Summary:
    """Take in everything there is, then follow both streams until `until`; stands by while another monitor is active.

    `spec_base` is the spec's directory; `on_window` sees each window once it is settled. Raises
    StoreUnreachable when the store is still away at the deadline, ArchiveError, RegistryError.
    """
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: give the address of the store that the service writes to")
    registry = Registry(settings.registry_url)
    monitor = Monitor(spec, spec_base, settings.model_home(spec.name), registry, settings.redis_url, on_window, clock)
    try:
        return monitor.run(until)
    finally:
        monitor.close()


class Monitor:
    """One run: what it holds between turns is lost without harm."""

    def __init__(
        self,
        spec: ModelSpec,
        spec_base: Path,
        home: Path,
        registry: Registry,
        store_url: str,
        on_window: Callable[[WindowResult], None],
        clock: Clock,
    ) -> None:
        self._spec, self._base, self._home, self._registry, self._url = spec, spec_base, home, registry, store_url
        self._on_window, self._clock = on_window, clock
        self._store: redis.Redis = connect(store_url)
        self._reader = Reader(self._store, spec.name)
        self._lease = Lease(self._store, lease_key(spec.name))
        self._count = COUNT // 8
        self._since_close = Taken()
        self._retry_wait, self._retry_at = FIRST_RETRY, clock()
        self._quiet = threading.Event()
        self._away = False
        self.summary = Summary()

    def run(self, until: datetime) -> Summary:
        """Stand by, then follow; again, should the store or the lease be lost before the deadline."""
        done = False
        while not done:
            try:
                done = self._once(until)
            except redis.RedisError as error:
                self._lost_store(_unreachable(self._url, error), until)
        return self.summary

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()

    def _once(self, until: datetime) -> bool:
        if not self._take_lease(until):
            return True
        with self._lease.kept():
            self._away = False
            self._note(active=True)
            prepare()
            model = self._first_champion(until)
            return model is None or self._follow(model, until)

    def _follow(self, model: Model, until: datetime) -> bool:
        """Turns until the deadline and the streams' end; false when the lease was lost on the way."""
        desk = Desk(self._spec, self._home, model, load_state(self._home), self._clock())
        self._reader.open()
        while self._lease.held and (left := self._reader.recover(self._count)).entries:
            self._take(desk, left)
        while self._lease.held:
            late = self._clock() >= until
            batch = self._read(late)
            self._take(desk, batch)
            # Labels told before the newest predictions were asked must be in before a window is judged.
            if labels_stream(self._spec.name) not in batch.more:
                self._close_due(desk)
            self._remind(desk)
            if late and not batch.more:
                return True
        return False

    def _take(self, desk: "Desk", batch: Batch) -> None:
        if not batch.entries:
            return
        if any(entry.record.version != desk.model.card.version for entry in batch.predictions):
            self._update(desk)
        taken = take(batch, self._reader, desk.archive)
        desk.saw(batch, self._clock())
        self._since_close += taken
        self._note(taken=self.summary.taken + taken)
        self._count = max(1, min(COUNT, TURN_ROWS * batch.entries // max(batch.rows, 1)))

    def _read(self, late: bool) -> Batch:
        batch = self._reader.read(self._count, None if late else BLOCK)
        if not batch.entries or batch.more or late:
            return batch
        self._quiet.wait(LINGER)
        return batch + self._reader.read(self._count)

    def _close_due(self, desk: "Desk") -> None:
        for window in desk.due():
            if self._clock() < self._retry_at:
                return
            self._update(desk)
            try:
                self._close(desk, window)
            except PrefectUnreachable as error:
                self._postpone(error)
                return

    def _close(self, desk: "Desk", window: Window) -> None:
        seen = self._since_close
        share = seen.unreadable / seen.entries if seen.entries else 0.0
        closed = close_window(window, desk.model, self._spec, desk.archive, desk.state, share, self._clock())
        desk.settle(closed)
        result = closed.result
        self._since_close, self._retry_wait = Taken(), FIRST_RETRY
        self._note(windows=self.summary.windows + 1, requests=self.summary.requests + result.decision.asks, waiting=False)
        log.info("window %s: %s (%s)", window, result.decision.kind, result.decision.reason)
        self._show(result)

    def _remind(self, desk: "Desk") -> None:
        """Tell the last request again where nothing shows that it came through; the same id is one event to a living server."""
        told, now = desk.state.told, self._clock()
        if told is None or not due(told, now):
            return
        self._update(desk)
        if is_taken(self._home, told.request.event_id) or told.request.version != desk.model.card.version:
            desk.remember(told.model_copy(update={"over": True}))
            return
        log.warning("no retraining has begun for event %s since %s: it is told again", told.request.event_id, told.at)
        try:
            # It occurs now: an event older than a trigger's last one would start nothing.
            send(requested(told.request, now))
            self._note(reminders=self.summary.reminders + 1)
        except PrefectUnreachable as error:
            log.warning("%s", error)
        desk.remember(told.model_copy(update={"last": now}))

    def _show(self, result: WindowResult) -> None:
        try:
            self._on_window(result)
        except Exception as error:  # the window is settled; how it is shown may fail as it likes
            log.exception("window %s could not be shown", result.window)
            report(error, group=("monitoring", "show-window"), model=self._spec.name)

    def _update(self, desk: "Desk") -> None:
        model = self._champion(desk.model)
        if model is not None and model is not desk.model:
            desk.adopt(model)

    def _champion(self, known: Model | None = None) -> Model | None:
        """The champion now; read again when the alias moved. Raises RegistryError when it cannot be loaded."""
        model = load_champion(self._registry, self._spec.name, self._base, known)
        if model is not None and model is not known:
            tag(model=self._spec.name, version=model.card.version)
        return model

    def _postpone(self, error: PrefectUnreachable) -> None:
        if not self.summary.waiting:  # once per absence, not once per try
            report(error, group=("monitoring", "event-unconfirmed"), model=self._spec.name)
        log.warning("%s; told again in %s, the window stays open", error, self._retry_wait)
        self._note(waiting=True)
        self._retry_at = self._clock() + self._retry_wait
        self._retry_wait = min(2 * self._retry_wait, LAST_RETRY)

    def _lost_store(self, error: StoreUnreachable, until: datetime) -> None:
        if self._clock() >= until:
            raise error
        if not self._away:
            log.warning("%s; the monitor waits for it", error)
            report(error, group=("monitoring", "store-unreachable"), model=self._spec.name)
        self._away = True
        self._quiet.wait(PAUSE)

    def _take_lease(self, until: datetime) -> bool:
        """Stand by until the lease is ours; what takes long to import is imported meanwhile."""
        while not self._lease.take():
            prepare()
            if self._clock() >= until:
                return False
            self._quiet.wait(PAUSE)
        return True

    def _first_champion(self, until: datetime) -> Model | None:
        """Without a champion there is no schema, and nothing was predicted."""
        while (model := self._champion()) is None and self._clock() < until and self._lease.held:
            self._quiet.wait(PAUSE)
        return model

    def _note(self, **changes: object) -> None:
        self.summary = self.summary.model_copy(update=changes)


class Desk:
    """What the active monitor works with: the log, the champion, the state, and how far event time has come."""

    def __init__(self, spec: ModelSpec, home: Path, model: Model, state: MonitorState, now: datetime) -> None:
        self._spec, self._home = spec, home
        self.state = state
        self.adopt(model)
        self._newest, self._oldest = self.archive.newest(now), self.archive.oldest()

    def adopt(self, model: Model) -> None:
        """Judge by this champion from now on, and type the log by its schema."""
        self.model = model
        self.archive = Archive(self._home, self._spec.task, model.card.schema_)

    def saw(self, batch: Batch, now: datetime) -> None:
        """Let event time advance to the newest archived prediction; a time in the future is no news."""
        times = [time for entry in batch.predictions for time in entry.record.event_times if ORIGIN <= time <= now + FUTURE]
        if times:
            self._newest, self._oldest = max(times + _known(self._newest)), min(times + _known(self._oldest))

    def due(self) -> list[Window]:
        """Windows to close now, oldest first."""
        since, spec = self.state.closed_until or self._oldest, self._spec.window
        if since is None or self._newest is None or window_at(since, spec.length).end + spec.lateness > self._newest:
            return []
        return list(due_windows(spec, since, self._newest, self.archive.dates()))

    def settle(self, closed: Closed) -> None:
        """The window is closed: remember it, and what was asked."""
        result, request = closed.result, closed.request
        asked = after(self.state.asked, result.window, result.decision, result.version)
        told = Told(request=request, at=result.closed_at, last=result.closed_at) if request else self.state.told
        self._keep(MonitorState(closed_until=result.end, asked=asked, told=told))

    def remember(self, told: Told) -> None:
        """What has become of telling the last request."""
        self._keep(self.state.model_copy(update={"told": told}))

    def _keep(self, state: MonitorState) -> None:
        save_state(self._home, state)
        self.state = state


def _unreachable(url: str, error: redis.RedisError) -> StoreUnreachable:
    try:
        with translate_redis_errors(url):
            raise error
    except StoreUnreachable as away:
        return away


def _known(time: datetime | None) -> list[datetime]:
    return [] if time is None else [time]
