"""Quotas: what a key may send in a minute, of requests and of rows, and when it may go on."""

from http import HTTPStatus

import pytest

from perennial.settings import Settings
from service.web.quota import KeyQuota, Quotas


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admitted(quotas: Quotas, quota: KeyQuota, tries: int) -> int:
    return sum(quotas.admit(quota) is None for _ in range(tries))


def test_a_key_has_a_minutes_requests_at_once_and_then_as_many_as_come_back() -> None:
    quotas = Quotas(Settings(key_requests=60), clock := Clock())
    quota = quotas.find(b"one")
    assert admitted(quotas, quota, 100) == 60
    clock.now += 10
    assert admitted(quotas, quota, 100) == 10
    clock.now += 3600
    assert admitted(quotas, quota, 100) == 60, "no more than one minute's is kept"
    assert admitted(quotas, quotas.find(b"another"), 10) == 10, "each key has its own"


def test_rows_are_owed_by_the_requests_that_follow() -> None:
    quotas = Quotas(Settings(key_rows=600), clock := Clock())
    quota = quotas.find(b"one")
    assert quotas.admit(quota) is None
    quota.charge(10_000)
    refused = quotas.admit(quota)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after) == (HTTPStatus.TOO_MANY_REQUESTS, "quota", 941)
    assert "the quota of rows of this API key is used up: try again in 941 s" in str(refused)
    clock.now += 941
    assert quotas.admit(quota) is None


@pytest.mark.parametrize("wait", [0.1, 0.9])
def test_a_wait_is_never_told_as_nothing(wait: float) -> None:
    quotas = Quotas(Settings(key_requests=60), clock := Clock())
    quota = quotas.find(b"")
    admitted(quotas, quota, 60)
    clock.now += wait
    refused = quotas.admit(quota)
    assert refused is not None
    assert refused.retry_after == 1


def test_the_rows_of_each_key_are_counted_without_quotas_and_nothing_is_refused() -> None:
    counted: list[tuple[str, int]] = []
    quotas = Quotas(Settings(), count=lambda key, rows: counted.append((key, rows)))
    for key in (b"a key of a client", b"a key of another", b""):
        quota = quotas.find(key)
        assert quotas.admit(quota) is None
        quota.charge(5)
    assert counted == [("784e9e0f", 5), ("98a0ebe1", 5)], "a client without a key is nobody"


def test_without_quotas_nothing_is_limited() -> None:
    assert not Quotas(Settings()).limited
