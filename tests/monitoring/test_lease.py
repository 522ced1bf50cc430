"""The lease: one holder at a time, and the next one when it ends or dies."""

from datetime import timedelta

import redis

from monitoring.lease import Lease, lease_key, renewing
from tests.support.waiting import wait_until

KEY = lease_key("small")
SHORT = timedelta(milliseconds=200)


def test_only_one_holds_it(store: redis.Redis) -> None:
    first, second = Lease(store, KEY), Lease(store, KEY)
    assert first.acquire()
    assert not second.acquire()
    with renewing(lambda: [first]):
        assert first.held
    assert second.acquire()


def test_a_holder_that_dies_is_succeeded(store: redis.Redis) -> None:
    assert Lease(store, KEY, SHORT).acquire()
    wait_until(Lease(store, KEY, SHORT).acquire, 5, "the lease of a dead holder to expire")


def test_it_is_renewed_while_held(store: redis.Redis) -> None:
    lease = Lease(store, KEY, SHORT)
    lease.acquire()
    store.pexpire(KEY, 10_000)
    with renewing(lambda: [lease], SHORT):
        wait_until(lambda: store.pttl(KEY) <= 200, 5, "a renewal")
        assert lease.held


def test_a_holder_notices_that_another_took_over(store: redis.Redis) -> None:
    lease = Lease(store, KEY, SHORT)
    lease.acquire()
    with renewing(lambda: [lease], SHORT):
        store.set(KEY, "another")
        wait_until(lambda: not lease.held, 5, "the loss to be noticed")
    assert store.get(KEY) == b"another"


def test_a_store_that_lost_its_data_gives_it_back(store: redis.Redis) -> None:
    lease = Lease(store, KEY, SHORT)
    lease.acquire()
    with renewing(lambda: [lease], SHORT):
        store.flushdb()
        wait_until(lambda: store.exists(KEY), 5, "the lease to be taken again")
        assert lease.held


def test_it_can_be_acquired_again_by_its_own_holder(store: redis.Redis) -> None:
    """A store that was away comes back with the key of the run that still goes on."""
    lease = Lease(store, KEY, SHORT)
    assert lease.acquire()
    assert lease.acquire()
    for _ in range(2):
        with renewing(lambda: [lease], SHORT):
            store.pexpire(KEY, 10_000)
            wait_until(lambda: store.pttl(KEY) <= 200, 5, "a renewal")
        assert lease.acquire()
