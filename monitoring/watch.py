"""The watch: one run of the monitor. It follows every model of a fleet whose lease it gets, until a deadline.

    watch(read_fleet, settings, until=deadline, on_window=show)

One thread does all of it, in rounds: models take their turns one after the other (read, archive, acknowledge, close a window
that is due, reconcile), and between rounds one blocking read waits for any of their streams. Another thread renews the leases. A
model whose lease another run holds is tried again, so a run that ends is succeeded by one that stands by.

What ends a model's turn ends nothing else: the model is reported, left for a while and tried again; only a store that is away
stops all of them. What is read is acknowledged when it is archived; a window is closed when its event is confirmed. So a run
may die anywhere, and the next one begins where this one was safe (tests/monitoring/test_watch.py crashes it between the steps).
A confirmed event may die with its server, and a run with its machine: `monitoring.reconciler` carries on with what did not come
through.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import redis

from monitoring.consumer import Batch, read_first
from monitoring.fleet import Fleet, FollowedModel, MonitorSummary, ReadFleet
from monitoring.follower import Clock, ModelFollower, ShowWindow
from monitoring.lease import free_leases, renewing
from monitoring.report import prepare
from perennial.error_reporting import report
from perennial.errors import SettingsError, StoreUnreachable
from perennial.settings import Settings
from service.prediction_log.redis_client import connect, store_unreachable

BLOCK = timedelta(seconds=1)
"""Longest wait for an entry: below the client's timeout, so that a frozen store is an error and not a hang."""

LINGER = timedelta(milliseconds=100)
"""In which entries may gather after the first one came: a write costs 10 ms, however little is in it."""

POLL = timedelta(milliseconds=500)
"""Between tries for a lease, for the first champion, for a store that is away."""

READ_FLEET = timedelta(seconds=2)
"""Between two looks at which models there are."""

log = logging.getLogger(__name__)


def watch(
    read_fleet: ReadFleet,
    settings: Settings,
    *,
    until: datetime,
    on_window: ShowWindow = lambda _: None,
    clock: Clock = lambda: datetime.now(UTC),
) -> MonitorSummary:
    """Ingest everything there is, then follow the fleet's streams until `until`; stands by for models that others follow.

    `on_window` is called with each window once it is closed. What is wrong with single models is in the summary's `failing`.
    Raises StoreUnreachable when the store is still away at the deadline.
    """
    with closing(Monitor(read_fleet, settings, on_window, clock)) as monitor:
        return monitor.run(until)


class Monitor:
    """One run: what it holds between rounds is lost without harm."""

    def __init__(self, read_fleet: ReadFleet, settings: Settings, on_window: ShowWindow, clock: Clock) -> None:
        if settings.redis_url is None:
            raise SettingsError("REDIS_URL is not set: give the address of the store that the service writes to")
        self._read_fleet, self._settings, self._url = read_fleet, settings, settings.redis_url
        self._on_window, self._clock = on_window, clock
        self._store: redis.Redis = connect(self._url)
        self._fleet, self._followers = Fleet(()), tuple[ModelFollower, ...]()
        self._fleet_at: datetime | None = None
        self._past = MonitorSummary()
        self._store_away = False

    @property
    def summary(self) -> MonitorSummary:
        """What has been done until now."""
        followed = sum((one.summary for one in self._followers), self._past)
        return followed.model_copy(update={"failing": {**self._fleet.broken, **followed.failing}})

    def run(self, until: datetime) -> MonitorSummary:
        """Follow; again, should the store be lost before the deadline."""
        done = False
        while not done:
            try:
                with renewing(lambda: [one.lease for one in self._followers]):
                    self._follow(until)
                done = True
            except redis.RedisError as error:
                self._wait_for_store(store_unreachable(self._url, error), until)
        return self.summary

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()

    def _follow(self, until: datetime) -> None:
        """Rounds until the deadline and the streams' end."""
        busy: set[str] = set()
        while True:
            late = self._clock() >= until
            self._update_fleet()
            active = self._active()
            self._store_away = False
            prepare()  # what takes long to import is imported before the first window, or while this run stands by
            firsts = {one.name: Batch() for one in active} if late or busy else self._wait(active)
            busy = {one.name for one in active if self._try(one, partial(one.turn, firsts.get(one.name)))}
            if late and not busy:
                return

    def _update_fleet(self) -> None:
        """Take in models that are new, and leave those that are gone or whose spec has changed."""
        now = self._clock()
        if self._fleet_at is not None and now < self._fleet_at + READ_FLEET:
            return
        self._fleet, self._fleet_at = self._read_fleet(), now
        known = {one.name: one for one in self._followers if one.model in self._fleet.models}
        for one in self._followers:
            if one.name not in known:
                log.info("model %s is no longer followed, or by another spec", one.name)
                one.leave()
                self._past += one.summary.model_copy(update={"failing": {}})
        self._followers = tuple(known.get(one.spec.name) or self._follower(one) for one in self._fleet.models)

    def _follower(self, model: FollowedModel) -> ModelFollower:
        return ModelFollower(model, self._store, self._settings, self._on_window, self._clock)

    def _active(self) -> list[ModelFollower]:
        """The models that take turns in this round: those whose lease is held, or is free now, and that have a champion."""
        awake = [one for one in self._followers if not one.rests]
        for one in self._followers:
            if one not in awake:
                one.leave()
        free = free_leases(self._store, [one.lease for one in awake if not one.lease.held])
        for lease in free:
            lease.acquire()
        return [one for one in awake if self._try(one, one.ready)]

    def _wait(self, active: Sequence[ModelFollower]) -> dict[str, Batch]:
        """The first new entries of any model, for which to wait a while; by model."""
        if not active:
            time.sleep(POLL.total_seconds())
            return {}
        try:
            found = read_first(self._store, [one.consumer for one in active], BLOCK)
        except redis.ResponseError:  # the streams of one model are not as they must be: each finds out for itself
            time.sleep(POLL.total_seconds())
            return {one.name: Batch() for one in active}
        if found:
            time.sleep(LINGER.total_seconds())
        return found

    def _try(self, follower: ModelFollower, step: Callable[[], bool]) -> bool:
        """What a step of one model returns; false when it failed, which concerns that model alone."""
        try:
            return step()
        except (redis.ConnectionError, redis.TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one model, the others are followed
            follower.failed(error)
            return False

    def _wait_for_store(self, error: StoreUnreachable, until: datetime) -> None:
        for one in self._followers:
            one.session = None
        if self._clock() >= until:
            raise error
        if not self._store_away:
            log.warning("%s; the monitor waits for it", error)
            report(error, group=("monitoring", "store-unreachable"))
        self._store_away = True
        time.sleep(POLL.total_seconds())
