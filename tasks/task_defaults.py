"""How a function becomes a Prefect task: `@local_task("fit")` or `@remote_task("ingest")`, and no other way.

`fit(...)` inside a flow runs as a task; `fit.fn(...)` is the plain function, for tests and for other functions. Inputs are never
hashed for a cache: they are whole tables. The one search that is worth remembering (`tune`) says so itself.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from perennial.errors import PrefectUnreachable, SourceError, StorageUnreachable, StoreUnreachable

BACKOFF = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=25))
"""Waits before each further try: a dropped connection, a restart, an outage."""

P = ParamSpec("P")
R = TypeVar("R")


def local_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that works with what is at hand: trying again would fail again."""
    return task(name=name, cache_policy=NO_CACHE)


def remote_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that reads from elsewhere: a lost connection is tried again, a wrong table is not."""
    delays = [delay.total_seconds() for delay in BACKOFF]
    return task(name=name, cache_policy=NO_CACHE, retries=len(delays), retry_delay_seconds=delays, retry_condition_fn=_retry)


def thread_per_core() -> TaskRunner[PrefectFuture[Any]]:
    """The task runner of a flow whose tasks each keep one core busy."""
    return cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1))


def _retry(_task: Any, _run: Any, state: Any) -> bool:
    """Whether the failed task is worth another try."""
    return isinstance(state.data, BaseException) and is_transient(state.data)


def is_transient(error: BaseException) -> bool:
    """Whether the error is about a connection; a missing file or a wrong table does not heal by waiting."""
    import httpx
    from sqlalchemy.exc import OperationalError

    reason = error.__cause__ if isinstance(error, SourceError) else error
    if isinstance(reason, httpx.HTTPStatusError):
        return reason.response.is_server_error
    connections = (ConnectionError, TimeoutError, httpx.TransportError, OperationalError)
    return isinstance(reason, (*connections, StorageUnreachable, StoreUnreachable, PrefectUnreachable))
