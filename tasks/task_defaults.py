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
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from perennial.errors import PrefectUnreachable, SettingsError, SourceError, StorageUnreachable, StoreUnreachable
from perennial.settings import load_settings

BACKOFF = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=25))
"""Waits before each further try: a dropped connection, a restart, an outage."""

LOCAL_CLUSTER = "local"
"""In place of a scheduler's address: a cluster of this machine, for as long as the run."""

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


def local_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that works with what is at hand: trying again would fail again."""
    return task(name=name, cache_policy=NO_CACHE)


def remote_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that reads from elsewhere: a lost connection is tried again, a wrong table is not."""
    delays = [delay.total_seconds() for delay in BACKOFF]
    return task(name=name, cache_policy=NO_CACHE, retries=len(delays), retry_delay_seconds=delays, retry_condition_fn=_retry)


class _CoresOrCluster(ThreadPoolTaskRunner[Any]):
    """Threads, unless the settings of the process that runs the flow name a Dask cluster; Prefect duplicates it for each run."""

    def duplicate(self) -> Any:
        address = load_settings(os.environ).dask_scheduler
        return _dask_runner(address) if address else super().duplicate()


def core_or_cluster() -> TaskRunner[PrefectFuture[Any]]:
    """The task runner of a flow whose tasks each keep one core busy: of this machine, or of a cluster (`dask_scheduler`)."""
    return cast(TaskRunner[PrefectFuture[Any]], _CoresOrCluster(max_workers=os.cpu_count() or 1))


def _dask_runner(address: str) -> Any:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise SettingsError(f'PERENNIAL_DASK_SCHEDULER={address} needs more packages: pip install "perennial[dask]"') from error
    if address != LOCAL_CLUSTER:
        return DaskTaskRunner(address=address)
    workers = {"n_workers": os.cpu_count() or 1, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=workers)


def spread(value: V) -> V:
    """The value to give to many tasks: once on each worker of the flow's Dask cluster, if it has one, instead of in each task."""
    context = FlowRunContext.get()
    client = getattr(context.task_runner, "client", None) if context is not None else None
    return value if client is None else cast(V, client.scatter(value, broadcast=True, hash=False))


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
