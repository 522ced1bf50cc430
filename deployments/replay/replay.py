"""A spec's own past lived through: what is replayed, checked before anything is sent, and what came of it.

A paced replay needs the whole loop on this machine: service, monitor, Prefect API with a worker, and the model's files. A
free-running one needs a service alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console

from deployments.prefect_client import PrefectClient, PrefectHistory
from deployments.replay.display import ReplayProgress, print_line
from deployments.replay.driver import ReplayDriver
from deployments.replay.frozen_baseline import open_frozen_baseline
from deployments.replay.pace import LoopPace
from deployments.replay.waits import LoopHandles, LoopWaiter
from deployments.stack.stack import require_service, running_stack, store_of
from monitoring.lease import lease_key
from monitoring.window import ORIGIN
from perennial.durations import parse_duration
from perennial.errors import DataError, RegistryError, RequestError, StackError
from perennial.log_columns import EVENT_TIME
from perennial.model_loading import load_card
from perennial.settings import authorization
from perennial.spec import ModelSpec
from service.prediction_log.redis_client import connect, translate_redis_errors
from tasks.data.ingest import assemble, parse_until
from tasks.job import Job
from tasks.serving.replay import STEP, Sent, prepare


@dataclass(frozen=True)
class Wishes:
    """What a person asked for; what was left out is None."""

    start: str | None = None
    until: str | None = None
    label_delay: str | None = None
    free_running: bool = False


@dataclass(frozen=True)
class Stretch:
    """What of a table is replayed: rows from `start` to `until`, their labels `label_delay` after them."""

    spec: ModelSpec
    base: Path
    rows: pl.DataFrame
    start: datetime
    until: datetime | None
    label_delay: timedelta


@dataclass(frozen=True)
class Replayed:
    """What a replay has sent and seen; `url` is where the model answers, `resume` from where another replay goes on."""

    progress: ReplayProgress
    url: str
    resume: datetime

    @property
    def sent(self) -> Sent:
        return self.progress.sent


class Interrupted(KeyboardInterrupt):
    """A replay that a person ended, with what it had sent."""

    def __init__(self, replayed: Replayed) -> None:
        super().__init__()
        self.replayed = replayed


def replay_spec(job: Job, wishes: Wishes, console: Console) -> Replayed:
    """Replay the spec's own table; raises StackError where the loop is not whole or stalls, RequestError for failed requests."""
    url = require_service(job.path, job.settings)
    stretch = choose_stretch(job, wishes, console)
    if wishes.free_running:
        headers = authorization(job.settings, job.spec.name)
        return _run(ReplayDriver(url, headers, job.spec.task, stretch.start), stretch, job, url, console)
    with _open_loop(job, url) as loop:
        waiter = LoopWaiter(loop, explain=lambda text: print_line(console, text))
        return _run(paced_driver(waiter, stretch, console, job.now), stretch, job, url, console)


def paced_driver(waiter: LoopWaiter, stretch: Stretch, console: Console, now: datetime) -> ReplayDriver:
    """A driver at the pace of a loop that is whole; its windows are compared with the version that is champion now."""
    loop, spec = waiter.loop, stretch.spec
    frozen = loop.registry.aliases(loop.model).champion or 1
    baseline = open_frozen_baseline(loop.registry, spec, stretch.base, loop.home, frozen, loop.archive_url)
    asked = stretch.rows.filter(pl.col(EVENT_TIME) >= stretch.start)
    pace = LoopPace(waiter, spec, baseline, console, asked[EVENT_TIME], now)
    return ReplayDriver(loop.service_url, loop.authorization, spec.task, stretch.start, pace)


def choose_stretch(job: Job, wishes: Wishes, console: Console) -> Stretch:
    """The rows to replay, by default those after what the champion has learnt; raises DataError where there are none."""
    learnt = _learnt_until(job)
    rows = prepare(assemble(job.spec, job.base, job.environ).frame, job.spec)
    until, delay = parse_until(wishes.until), wishes.label_delay
    left = rows.filter(pl.col(EVENT_TIME) > learnt)[EVENT_TIME]
    start = parse_until(wishes.start) or (left[0] if len(left) else None)
    if start is None:
        fix = f"`perennial train {job.path} --until TIME` leaves the rows from TIME on to be replayed"
        raise DataError(f"the champion has learnt every row of the table, the last one of {learnt:%Y-%m-%d %H:%M}: {fix}")
    if start <= learnt:
        print_line(
            console, f"the champion has learnt rows until {learnt:%Y-%m-%d %H:%M}: its answers about those are no forecasts"
        )
    if rows.filter(pl.col(EVENT_TIME) >= start, pl.col(EVENT_TIME) < until if until else True).is_empty():
        said = f"from {start:%Y-%m-%d %H:%M}" + (f" to {until:%Y-%m-%d %H:%M}" if until else "")
        raise DataError(f"the table has no row {said}: it has rows from {rows[0, EVENT_TIME]} to {rows[-1, EVENT_TIME]}")
    return Stretch(job.spec, job.base, rows, start, until, parse_duration(delay) if delay else job.spec.window.lateness)


def _learnt_until(job: Job) -> datetime:
    name = job.spec.name
    champion = job.registry.aliases(name).champion
    if champion is None:
        fix = f"run `perennial train {job.path} --until TIME` first; it leaves the rows from TIME on to be replayed"
        raise RegistryError(f"{name} has no champion, so nothing would answer: {fix}")
    return load_card(job.registry, name, champion).until


@contextmanager
def _open_loop(job: Job, url: str) -> Iterator[LoopHandles]:
    """The loop that follows the job's model; raises StackError with the fix where a part of it is missing."""
    stack, name = running_stack(job.settings), job.spec.name
    fix = f"run `perennial up {job.path}`, or send as fast as the service answers with --free-running"
    store_url = store_of(stack, job.settings)
    api_url = stack.prefect.url if stack is not None else job.settings.prefect_api_url
    if store_url is None or api_url is None:
        raise StackError(f"no loop runs here whose pace a replay of {name} could keep: {fix}")
    with PrefectClient(api_url, job.environ) as api, connect(store_url) as store:
        with translate_redis_errors(store_url):
            if not store.exists(lease_key(name)):
                raise StackError(f"no monitor follows {name}, and a replay at its pace would wait for ever: {fix}")
        history = PrefectHistory(api, name, ORIGIN, str(job.path))  # its events may be of an earlier replay
        headers = authorization(job.settings, name)
        yield LoopHandles(name, job.home, url, store_url, store, job.registry, history, headers, job.archive_url)


def _run(driver: ReplayDriver, stretch: Stretch, job: Job, url: str, console: Console) -> Replayed:
    """Raises Interrupted, StackError that says how to go on, and RequestError."""
    try:
        driver.replay(stretch.rows, stretch.until, stretch.label_delay, console)
    except KeyboardInterrupt:
        raise Interrupted(_replayed(driver, stretch, url)) from None
    except StackError as error:
        again = f"perennial replay {job.path} --start {_replayed(driver, stretch, url).resume:%Y-%m-%dT%H:%M}"
        raise StackError(f"{error}\n  Once that is mended: {again}   (rows that are sent again count once)") from error
    sent = driver.progress.sent
    if sent.failed:
        raise RequestError(f"{sent.failed} of {sent.requests} requests failed; first: {sent.failures[0]}")
    return _replayed(driver, stretch, url)


def _replayed(driver: ReplayDriver, stretch: Stretch, url: str) -> Replayed:
    """Labels that fell due before `resume` have been sent."""
    resume = max(stretch.start, driver.progress.clock - stretch.label_delay - STEP)
    return Replayed(driver.progress, url, resume)
