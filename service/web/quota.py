"""What API keys send, and their quotas: a token bucket for requests and one for rows, for each key that a worker has seen.

A bucket holds what one minute allows, and fills evenly. A request takes a token before it is let in; its rows are known once
it is answered, and are taken then, so that one request may go below zero and the next ones wait until the debt is paid. Used by
the event loop of one worker; each worker counts by itself. Where no key is asked for, all clients share one quota, and nothing
is said of who sent what; else the rows of each key are counted, whether or not there are quotas.
"""

import hashlib
import math
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from perennial.settings import Settings
from service.errors import ServiceError

MINUTE = 60.0  # seconds

Clock = Callable[[], float]
CountRows = Callable[[str, int], None]  # a key's name, and rows or labels that it has sent


class Bucket:
    """Tokens that come back at `quota` a minute, at most as many as one minute gives."""

    __slots__ = ("_at", "_quota", "_tokens")

    def __init__(self, quota: int, now: float) -> None:
        self._quota, self._tokens, self._at = quota, float(quota), now

    def wait(self, now: float) -> float:
        """Seconds until a token is there; zero when one is."""
        self._tokens = min(self._quota, self._tokens + (now - self._at) * self._quota / MINUTE)
        self._at = now
        return max(0.0, (1 - self._tokens) * MINUTE / self._quota)

    def take(self, count: int) -> None:
        self._tokens -= count


class KeyQuota:
    """What one key has left in this worker."""

    def __init__(self, requests: int, rows: int, now: float, count: Callable[[int], None] = lambda _: None) -> None:
        self._count = count
        self._requests = Bucket(requests, now) if requests else None
        self._rows = Bucket(rows, now) if rows else None

    def admit(self, now: float) -> ServiceError | None:
        """Take a request's token; the refusal where there is none, or where rows are still owed."""
        kinds = (("requests", self._requests), ("rows", self._rows))
        waits = {kind: bucket.wait(now) for kind, bucket in kinds if bucket is not None}
        kind, wait = max(waits.items(), key=lambda item: item[1], default=("", 0.0))
        if wait > 0:
            return over_quota(kind, wait)
        if self._requests is not None:
            self._requests.take(1)
        return None

    def charge(self, rows: int) -> None:
        """An answered request had so many rows or labels."""
        self._count(rows)
        if self._rows is not None:
            self._rows.take(rows)


class Quotas:
    """The quotas of all keys in one worker; none where the settings give none. `count` is told the rows of each key."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic, count: CountRows = lambda *_: None) -> None:
        self._requests, self._rows, self._clock, self._count = settings.key_requests, settings.key_rows, clock, count
        self._keys: dict[bytes, KeyQuota] = {}
        self.limited = bool(self._requests or self._rows)

    def find(self, key: bytes) -> KeyQuota:
        """The quota of a known key; unknown ones were refused before, so there are as many as keys."""
        if (quota := self._keys.get(key)) is None:
            count = partial(self._count, name_of(key)) if key else lambda _: None
            quota = self._keys[key] = KeyQuota(self._requests, self._rows, self._clock(), count)
        return quota

    def admit(self, quota: KeyQuota) -> ServiceError | None:
        return quota.admit(self._clock())


def name_of(key: bytes) -> str:
    """What a key is called where it must not be shown: the first characters of its SHA-256, as `sha256sum` prints it."""
    return hashlib.sha256(key).hexdigest()[:8]


def over_quota(kind: str, wait: float) -> ServiceError:
    """The key has used up its quota; the same request succeeds after `wait` seconds."""
    seconds = max(1, math.ceil(wait))
    message = f"the quota of {kind} of this API key is used up: try again in {seconds} s"
    return ServiceError(HTTPStatus.TOO_MANY_REQUESTS, "quota", message, retry_after=seconds)
