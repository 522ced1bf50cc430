"""The Redis client: the one place that opens a connection to Redis or Valkey (tests/test_structure.py), for all packages.

So timeouts, retries and the words of its errors are the same everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from perennial.errors import StoreUnreachable
from perennial.redaction import without_credentials

ANSWER_TIMEOUT = timedelta(seconds=3)  # for a store that is frozen rather than gone; a megabyte of entries takes it milliseconds
CONNECT_TIMEOUT = timedelta(seconds=2)  # to open a connection


def connect(url: str, *, blocking: bool = False, timeout: timedelta = ANSWER_TIMEOUT) -> redis.Redis:
    """A client of the store at `url`; nothing is sent yet. It never retries by itself: callers know what they may repeat.

    `blocking` is for XREADGROUP with BLOCK: redis-py's own timeout would otherwise cut the wait short.
    `timeout` is for an answer and for a connection.
    """
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=None if blocking else timeout.total_seconds(),
        socket_connect_timeout=min(timeout, CONNECT_TIMEOUT).total_seconds(),
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
    return client


@contextmanager
def translate_redis_errors(url: str) -> Iterator[None]:
    """Turn what redis-py raises into StoreUnreachable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise store_unreachable(url, error) from error


def store_unreachable(url: str, error: Exception) -> StoreUnreachable:
    """What redis-py raised, in words that name the store and the fix but not its password."""
    return StoreUnreachable(
        f"the store at {without_credentials(url)} does not take commands ({error}): start it, or set REDIS_URL"
    )
