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

_TAKE = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""Takes it when it is free, and renews it when it is ours; one script, so that nobody comes between."""

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
        """Try once to become the holder, or to stay it; raises redis.RedisError when the store does not answer.

        A key that vanished with a store's data is taken again: nobody else holds it.
        """
        life = int(self._life.total_seconds() * 1000)
        self.held = bool(self._store.eval(_TAKE, 1, self._key, self._holder, life))
        return self.held

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease in the background while the block runs, and give it up at its end."""
        self._over.clear()
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
            self.take()
        except redis.RedisError as error:
            # Not lost yet: the store may come back with the key still ours. Taken by another, the next renewal says so.
            log.warning("lease %s could not be renewed: %s", self._key, error)
