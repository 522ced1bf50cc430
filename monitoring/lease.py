"""The lease: of all monitors of a model one is active, the others stand by and take over when it ends or dies.

It is redis-py's lock on one key of the store, with a time to live; one thread renews every lease that a run holds. It bounds
waste and double work; what must never happen twice is guarded by ids, not by the lease.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

TIME_TO_LIVE = timedelta(seconds=15)
"""How long a dead holder keeps others waiting: longer than any pause of a busy process, short enough to go unnoticed."""

RENEWALS = 5
"""Renewals per time to live: four may fail before the lease is lost."""

log = logging.getLogger(__name__)


def lease_key(model: str) -> str:
    """The store's key that names the active monitor of a model."""
    return f"perennial:{model}:monitor"


class Lease:
    """A claim on one key of the store. `held` turns false when another holder took it over."""

    def __init__(self, store: redis.Redis, key: str, time_to_live: timedelta = TIME_TO_LIVE) -> None:
        seconds = time_to_live.total_seconds()
        # Not thread-local: the thread that renews is not the one that acquired.
        self._lock = Lock(store, key, timeout=seconds, blocking=False, thread_local=False)
        self._token, self._guard = secrets.token_hex(8), threading.Lock()
        self.key, self.held = key, False

    def acquire(self) -> bool:
        """Try once to become the holder, or to stay it; raises redis.RedisError when the store does not answer.

        A key that vanished with a store's data is acquired again, unless another holder was first.
        """
        with self._guard:
            self.held = self._renewed() or bool(self._lock.acquire(token=self._token))
            return self.held

    def renew(self) -> None:
        """Stay the holder for another time to live, or notice that another one is; raises redis.RedisError."""
        with self._guard:
            if self.held:
                self.held = self._renewed() or bool(self._lock.acquire(token=self._token))

    def release(self) -> None:
        """Let another one be the holder."""
        with self._guard:
            if self.held:
                with suppress(redis.RedisError):
                    self._lock.release()
            self.held = False

    def is_free(self, holder: bytes | None) -> bool:
        """Whether it is worth a try, where the store's key says `holder`."""
        return holder is None or holder == self._token.encode()

    def _renewed(self) -> bool:
        self._lock.local.token = self._token.encode()
        try:
            return self._lock.reacquire()
        except LockNotOwnedError:
            return False


@contextmanager
def renewing(leases: Callable[[], Sequence[Lease]], time_to_live: timedelta = TIME_TO_LIVE) -> Iterator[None]:
    """Renew those of the leases that are held, in one thread, while the block runs; release all of them at its end."""
    over, pause = threading.Event(), time_to_live.total_seconds() / RENEWALS
    thread = threading.Thread(target=_renew_all, args=(leases, over, pause), name="monitor-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for lease in leases():
            lease.release()


def free_leases(store: redis.Redis, leases: Sequence[Lease]) -> list[Lease]:
    """Those that nobody else holds, found with one command; raises redis.RedisError."""
    holders: list[Any] = store.mget([lease.key for lease in leases]) if leases else []
    return [lease for lease, holder in zip(leases, holders, strict=True) if lease.is_free(holder)]


def _renew_all(leases: Callable[[], Iterable[Lease]], over: threading.Event, pause: float) -> None:
    while not over.wait(pause):
        for lease in leases():
            try:
                lease.renew()
            except redis.RedisError as error:
                # Not lost yet: the store may come back with the key still this holder's. If not, the next renewal says so.
                log.warning("lease %s could not be renewed: %s", lease.key, error)
                break
