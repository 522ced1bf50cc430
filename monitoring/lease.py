"""The lease: of all monitors of a model one is active, the others stand by and take over when it ends or dies.

It is redis-py's lock on one key of the store, with a time to live and a thread that renews it while it is held. It bounds
waste and double work; what must never happen twice is guarded by ids, not by the lease.
"""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

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
        self._token, self._pause = secrets.token_hex(8), seconds / RENEWALS
        self._over = threading.Event()
        self.held = False

    def acquire(self) -> bool:
        """Try once to become the holder, or to stay it; raises redis.RedisError when the store does not answer.

        A key that vanished with a store's data is acquired again, unless another holder was first.
        """
        self.held = self._renewed() or bool(self._lock.acquire(token=self._token))
        return self.held

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the lease in a thread while the block runs, and release it at its end."""
        self._over.clear()
        thread = threading.Thread(target=self._renew, name="monitor-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            with suppress(redis.RedisError):
                self._lock.release()
            self.held = False

    def _renew(self) -> None:
        while self.held and not self._over.wait(self._pause):
            try:
                self.acquire()
            except redis.RedisError as error:
                # Not lost yet: the store may come back with the key still this holder's. If not, the next renewal says so.
                log.warning("lease %s could not be renewed: %s", self._lock.name, error)

    def _renewed(self) -> bool:
        self._lock.local.token = self._token.encode()
        try:
            return self._lock.reacquire()
        except LockNotOwnedError:
            return False
