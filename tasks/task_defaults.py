"""A step: a plain function made a Prefect task, with the retries that suit it.

Inputs are never hashed for a cache: they are whole tables. The one search that is worth remembering says so itself.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from perennial.errors import PrefectUnreachable, SourceError, StoreUnreachable

RETRIES = 3
BACKOFF: list[float] = [1, 5, 25]
"""Seconds before each further try: a blink, a restart, an outage."""

P = ParamSpec("P")
R = TypeVar("R")


def step(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function that works with what is at hand: trying again would fail again."""
    return task(name=name, cache_policy=NO_CACHE)


def remote_step(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function that reads from afar: a lost connection is tried again, a wrong table is not."""
    return task(name=name, cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=BACKOFF, retry_condition_fn=is_transient)


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether the failed task is worth another try."""
    return isinstance(state.data, BaseException) and transient(state.data)


def transient(error: BaseException) -> bool:
    """Whether the error is about a connection; a missing file or a wrong table does not heal by waiting."""
    import httpx
    from sqlalchemy.exc import OperationalError

    reason = error.__cause__ if isinstance(error, SourceError) else error
    if isinstance(reason, httpx.HTTPStatusError):
        return reason.response.is_server_error
    connections = (ConnectionError, TimeoutError, httpx.TransportError, OperationalError)
    return isinstance(reason, (*connections, StoreUnreachable, PrefectUnreachable))
