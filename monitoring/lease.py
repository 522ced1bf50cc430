"""The lease: of all monitors of a model one is active, the others stand by and take over when it ends or dies.

One key in the store with a holder and a time to live, renewed while held. It bounds waste and
double work; what must never happen twice is guarded by ids, not by the lease.
"""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import redis

LIFE = timedelta(seconds=15)
"""How long a dead holder keeps others waiting: longer than any pause of a busy process, short enough to go unnoticed."""

RENEWALS = 5
"""Renewals per life: four may fail before the lease is lost."""

_RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
_RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"

log = logging.getLogger(__name__)


def lease_key(model: str) -> str:
    """The store's key that names the active monitor of a model."""
    return f"perennial:{model}:monitor"


class Lease:
    """A claim on one key of the store. `held` turns false when it was lost to somebody else."""

    def __init__(self, store: redis.Redis, key: str, life: timedelta = LIFE) -> None:
        self._store, self._key, self._life = store, key, life
        self._holder = secrets.token_hex(8)
        self._over = threading.Event()
        self.held = False

    def take(self) -> bool:
        """Try once to become the holder; raises redis.RedisError when the store does not answer."""
        self.held = bool(self._store.set(self._key, self._holder, nx=True, px=self._life))
        return self.held

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease in the background while the block runs, and give it up at its end."""
        keeper = threading.Thread(target=self._keep, name="monitor-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            self._over.set()
            keeper.join()
            with suppress(redis.RedisError):
                self._store.eval(_RELEASE, 1, self._key, self._holder)
            self.held = False

    def _keep(self) -> None:
        pause = self._life.total_seconds() / RENEWALS
        while self.held and not self._over.wait(pause):
            self._renew()

    def _renew(self) -> None:
        try:
            renewed = self._store.eval(_RENEW, 1, self._key, self._holder, int(self._life.total_seconds() * 1000))
        except redis.RedisError as error:
            # Not lost yet: the store may come back with the key still ours. Taken by another, the next renewal says so.
            log.warning("lease %s could not be renewed: %s", self._key, error)
            return
        # The key may have vanished with a store that lost its data: nobody else holds it, so take it again.
        self.held = bool(renewed) or self.take()
