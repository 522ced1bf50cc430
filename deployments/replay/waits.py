"""What a paced replay waits for, and how long at most.

A replay sends a year in minutes, and a loop that reacts within seconds would miss event time; so the replay stands still
until the loop has reacted. A wait polls outcomes only: window files, flow runs, the registry, the service's /metrics. What does
not come ends the replay with a StackError that says what was waited for and, as far as the loop's parts show it, what is wrong
with them; a `tolerant` waiter (the demo's) notes a training or promotion that does not come in `problems` and goes on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event, Timer
from typing import TypeVar

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from deployments.deploy import POOL
from deployments.prefect_client import FlowRun, PrefectHistory
from deployments.stack.status import troubles
from monitoring.lease import lease_key
from monitoring.policy import Flow
from monitoring.state import WindowResult, load_result, load_state
from monitoring.window import Window
from perennial.errors import PerennialError, PrefectUnreachable, StackError, StoreUnreachable
from perennial.registry import Registry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import labels_stream, predictions_stream

T = TypeVar("T")

MONITOR_TIMEOUT = timedelta(seconds=480)  # to catch up or to close a window: if a run dies, the schedule brings the next in 300 s
START_TIMEOUT = timedelta(seconds=180)  # from a confirmed event to its flow run: ten times what a busy machine needs
TRAINING_TIMEOUT = timedelta(seconds=900)  # for one training, its search included; about a minute on two quiet cores
SWAP_TIMEOUT = timedelta(seconds=30)  # from a promotion until every worker answers with it; the service promises two seconds
SCRAPE_TIMEOUT = timedelta(seconds=10)  # for one answer of /metrics; it takes milliseconds on a quiet machine
SLOW = timedelta(seconds=30)  # after which a wait is explained; closing a window takes seconds, a training often a minute
WORKER_SILENCE = timedelta(seconds=60)  # without a heartbeat, of which there are six in it, before a worker counts as gone
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=0.02), timedelta(seconds=0.5)  # between two looks: doubled from first to longest


@dataclass(frozen=True)
class LoopHandles:
    """Where the components of one running loop are found; `authorization` is the headers that carry a key of the service.

    `service_url` is where the model answers, below which its `/predict` is.
    """

    model: str
    home: Path
    service_url: str
    store_url: str
    store: redis.Redis
    registry: Registry
    history: PrefectHistory
    authorization: Mapping[str, str] = field(default_factory=dict, repr=False)
    archive_url: str | None = None


@dataclass(frozen=True)
class ServiceMetrics:
    """One look at /metrics: the version of the worker that is furthest behind, the last swap, and sums of all workers.

    `version` is 0 where no worker has a version in memory.
    """

    version: int = 0
    swapped_at: datetime | None = None
    predictions: int = 0
    labels: int = 0


@dataclass
class LoopWaiter:
    """Waits for one loop: `waiting` says for what now, `problems` what it went on without.

    `swaps` has when the last worker began to answer with each version; `explain` is called with a wait that takes long.
    """

    loop: LoopHandles
    tolerant: bool = False
    explain: Callable[[str], None] = lambda _: None
    waiting: str = ""
    problems: list[str] = field(default_factory=list)
    swaps: dict[int, datetime] = field(default_factory=dict)

    def wait_for_monitor(self, max_backlog: int = 0) -> None:
        """Until at most `max_backlog` stream entries wait for the archive; raises StackError when it does not catch up."""
        self._wait(lambda: backlog(self.loop) <= max_backlog or None, MONITOR_TIMEOUT, "the monitor to catch up")

    def wait_for_window(self, window: Window) -> WindowResult | None:
        """Until the window is closed; its result, None for one that was left out. Raises StackError when it is not closed."""
        what, home = f"the monitor to close the window {window}", self.loop.home

        def closed() -> tuple[WindowResult | None] | None:
            if result := load_result(home, window):
                return (result,)
            until = load_state(home).closed_until
            return (load_result(home, window),) if until is not None and until >= window.end else None

        return self._wait(closed, MONITOR_TIMEOUT, what)[0]

    def wait_for_run(self, flow: Flow, event_id: str) -> FlowRun | None:
        """Until the flow that the event started has ended and what it promoted serves; one that failed is a noted problem."""
        find = partial(self.loop.history.run_for, event_id, flow)
        try:
            self._wait(find, START_TIMEOUT, f"an automation to answer event {event_id}")
            run = self._wait(lambda: if_ended(find()), TRAINING_TIMEOUT, f"{flow} for event {event_id} to end")
            if run.state != "COMPLETED":
                self.problems.append(f"{flow} {run.name} ended {run.state}: {run.message}")
            self.wait_for_champion()
            return run
        except StackError as error:
            if not self.tolerant:
                raise
            self.problems.append(str(error))
            return None

    def wait_for_champion(self) -> int | None:
        """Until every worker that has the model in memory answers with the champion."""
        champion = self.loop.registry.aliases(self.loop.model).champion
        if champion is not None:
            metrics = self._wait(lambda: self._serving(champion), SWAP_TIMEOUT, f"the service to answer with version {champion}")
            if metrics.swapped_at is not None:
                self.swaps.setdefault(champion, metrics.swapped_at)
        return champion

    def _serving(self, version: int) -> ServiceMetrics | None:
        loop = self.loop
        metrics = scrape(loop.service_url, loop.authorization, loop.model)
        if metrics.version == 0 and ready_version(loop.service_url, loop.authorization) == version:
            return metrics  # its first request loads it
        return metrics if metrics.version == version else None

    def _wait(self, look: Callable[[], T | None], timeout: timedelta, what: str) -> T:
        slow = Timer(SLOW.total_seconds(), self._explain, (what,))
        slow.daemon = True
        slow.start()
        self.waiting = what
        try:
            return poll_until(look, timeout, what)
        except StackError as error:
            raise StackError(f"{error}; {find_fault(self.loop)}") from error
        finally:
            slow.cancel()
            self.waiting = ""

    def _explain(self, what: str) -> None:
        """In a thread: say of a wait that goes on what holds it up."""
        self.explain(f"waiting for {what} since {SLOW.total_seconds():.0f} s; {find_fault(self.loop)}")


def find_fault(loop: LoopHandles) -> str:
    """What is wrong with a loop that does not go on, and the fix, as far as its own files, the store and the API show it."""
    try:
        if found := troubles(loop.model, loop.home.parent):
            return found[0]
        with translate_redis_errors(loop.store_url):
            if not loop.store.exists(lease_key(loop.model)):
                return f"no monitor follows {loop.model}: `perennial up SPEC` starts one"
        if not loop.history.client.online_workers(POOL, datetime.now(UTC) - WORKER_SILENCE):
            return "no worker of the flows is alive: `perennial up SPEC` starts one"
    except PerennialError as error:
        return str(error)
    return "every part is alive; `perennial status` shows them and names their logs"


def poll_until(look: Callable[[], T | None], timeout: timedelta, what: str) -> T:
    """Call `look` until it returns a value; raises StackError naming `what` and the last error.

    An API, store or service that does not answer is polled on: its supervisor may be starting it again.
    """
    deadline, pause, last = time.monotonic() + timeout.total_seconds(), FIRST_PAUSE, ""
    while time.monotonic() < deadline:
        try:
            if (found := look()) is not None:
                return found
        except (PrefectUnreachable, StoreUnreachable, StackError) as error:
            last = f"; last error: {error}"
        Event().wait(pause.total_seconds())
        pause = min(2 * pause, LONGEST_PAUSE)
    raise StackError(f"waited {timeout.total_seconds():.0f} s in vain for {what}{last}")


def if_ended(run: FlowRun | None) -> FlowRun | None:
    """The run if its state can no longer change."""
    return run if run is not None and run.terminal else None


def backlog(loop: LoopHandles) -> int:
    """Entries of both streams that are not in the archive yet: the monitor trims an entry once it is."""
    with translate_redis_errors(loop.store_url):
        return sum(int(loop.store.xlen(stream(loop.model))) for stream in (predictions_stream, labels_stream))


def scrape(url: str, headers: Mapping[str, str] | None = None, model: str = "") -> ServiceMetrics:
    """Look at the service in which a model answers at `url`, of all models unless one is named; raises StackError."""
    return read_metrics(_ask(f"{service_root(url)}/metrics", headers).text, model)


def ready_version(url: str, headers: Mapping[str, str] | None = None) -> int | None:
    """The version that a model would answer with at its next request; raises StackError when the service says nothing."""
    found: int | None = _ask(f"{url}/ready", headers).json().get("version")
    return found


def service_root(url: str) -> str:
    """The address of the service in which a model answers at `url`, short or long."""
    return url.partition("/models/")[0]


def _ask(url: str, headers: Mapping[str, str] | None) -> httpx.Response:
    try:
        return httpx.get(url, headers=headers, timeout=SCRAPE_TIMEOUT.total_seconds(), trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise StackError(f"{url} does not answer ({error}): see the service's log with `perennial status`") from error


def read_metrics(text: str, model: str = "") -> ServiceMetrics:
    """Read the Prometheus text format. A version counts once every worker answers with it, so the oldest one counts."""
    found: dict[str, list[float]] = {}
    for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
        if not model or sample.labels.get("model", model) == model:
            found.setdefault(sample.name.removeprefix("perennial_"), []).append(sample.value)
    swapped = max(found.get("model_swapped_timestamp_seconds", []), default=0.0)
    return ServiceMetrics(
        version=int(min(filter(None, found.get("model_version", [])), default=0)),
        swapped_at=datetime.fromtimestamp(swapped, UTC) if swapped else None,
        predictions=int(sum(found.get("predictions_total", []))),
        labels=int(sum(found.get("labels_total", []))),
    )
