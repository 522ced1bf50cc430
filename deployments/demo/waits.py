"""What the replay waits for, and how long at most.

The demo sends a year in minutes, and a loop that reacts within seconds would miss event time; so the replay stands still
until the loop has reacted. A wait polls outcomes only: window files, flow runs, the registry, the service's /metrics. A
monitor that does not catch up ends the demo (StackError); a training or promotion that does not come is noted in `problems`
and the replay goes on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from deployments.prefect_client import FlowRun, PrefectHistory
from monitoring.policy import Flow
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.errors import PrefectUnreachable, StackError, StoreUnreachable
from perennial.registry import Registry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import labels_stream, predictions_stream

T = TypeVar("T")

MONITOR_TIMEOUT = timedelta(seconds=480)  # to catch up or to close a window: if a run dies, the schedule brings the next in 300 s
START_TIMEOUT = timedelta(seconds=180)  # from a confirmed event to its flow run: ten times what a busy machine needs
TRAINING_TIMEOUT = timedelta(seconds=900)  # for one training, its search included; about a minute on two quiet cores
SWAP_TIMEOUT = timedelta(seconds=30)  # from a promotion until every worker answers with it; the service promises two seconds
SCRAPE_TIMEOUT = timedelta(seconds=10)  # for one answer of /metrics; it takes milliseconds on a quiet machine
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=0.02), timedelta(seconds=0.5)  # between two looks: doubled from first to longest


@dataclass(frozen=True)
class LoopHandles:
    """Where the components of one running loop are found; `authorization` is the headers that carry a key of the service."""

    model: str
    home: Path
    service_url: str
    store_url: str
    store: redis.Redis
    registry: Registry
    history: PrefectHistory
    authorization: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ServiceMetrics:
    """One look at /metrics: the version of the worker that is furthest behind, the last swap, and sums of all workers."""

    version: int = 0
    swapped_at: datetime | None = None
    predictions: int = 0
    labels: int = 0


@dataclass
class LoopWaiter:
    """Waits for one loop: `waiting` says for what now, `problems` what it went on without.

    `swaps` has when the last worker began to answer with each version.
    """

    loop: LoopHandles
    waiting: str = ""
    problems: list[str] = field(default_factory=list)
    swaps: dict[int, datetime] = field(default_factory=dict)

    def wait_for_monitor(self, max_backlog: int = 0) -> None:
        """Until at most `max_backlog` stream entries wait for the archive; raises StackError when it does not catch up."""
        self._wait(lambda: backlog(self.loop) <= max_backlog or None, MONITOR_TIMEOUT, "the monitor to catch up")

    def wait_for_window(self, window: Window) -> WindowResult:
        """Until the window's result is on disk; raises StackError when the monitor does not close it."""
        what, home = f"the monitor to close the window {window}", self.loop.home
        return self._wait(lambda: {one.window: one for one in load_results(home)}.get(window), MONITOR_TIMEOUT, what)

    def wait_for_run(self, flow: Flow, event_id: str) -> FlowRun | None:
        """Until the flow that the event started has ended and what it promoted serves; None with a problem noted."""
        find = partial(self.loop.history.run_for, event_id, flow)
        try:
            self._wait(find, START_TIMEOUT, f"an automation to answer event {event_id}")
            run = self._wait(lambda: if_ended(find()), TRAINING_TIMEOUT, f"{flow} for event {event_id} to end")
            if run.state != "COMPLETED":
                self.problems.append(f"{flow} {run.name} ended {run.state}: {run.message}")
            self.wait_for_champion()
            return run
        except StackError as error:
            self.problems.append(str(error))
            return None

    def wait_for_champion(self) -> int | None:
        """Until every worker answers with the champion."""
        champion = self.loop.registry.aliases(self.loop.model).champion
        if champion is not None:
            metrics = self._wait(lambda: self._serving(champion), SWAP_TIMEOUT, f"the service to answer with version {champion}")
            if metrics.swapped_at is not None:
                self.swaps.setdefault(champion, metrics.swapped_at)
        return champion

    def _serving(self, version: int) -> ServiceMetrics | None:
        metrics = scrape(self.loop.service_url, self.loop.authorization)
        return metrics if metrics.version == version else None

    def _wait(self, look: Callable[[], T | None], timeout: timedelta, what: str) -> T:
        self.waiting = what
        try:
            return poll_until(look, timeout, what)
        finally:
            self.waiting = ""


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
    raise StackError(f"waited {timeout.total_seconds():.0f} s in vain for {what}{last}; see the logs with `perennial status`")


def if_ended(run: FlowRun | None) -> FlowRun | None:
    """The run if its state can no longer change."""
    return run if run is not None and run.terminal else None


def backlog(loop: LoopHandles) -> int:
    """Entries of both streams that are not in the archive yet: the monitor trims an entry once it is."""
    with translate_redis_errors(loop.store_url):
        return sum(int(loop.store.xlen(stream(loop.model))) for stream in (predictions_stream, labels_stream))


def scrape(url: str, headers: Mapping[str, str] | None = None) -> ServiceMetrics:
    """Look at the service at `url`, with `headers` that carry a key; raises StackError when it does not answer."""
    timeout = SCRAPE_TIMEOUT.total_seconds()
    try:
        reply = httpx.get(f"{url}/metrics", headers=headers, timeout=timeout, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise StackError(f"{url}/metrics does not answer ({error}): see the service's log with `perennial status`") from error
    return read_metrics(reply.text)


def read_metrics(text: str) -> ServiceMetrics:
    """Read the Prometheus text format. A version counts once every worker answers with it, so the oldest one counts."""
    found: dict[str, list[float]] = {}
    for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
        found.setdefault(sample.name.removeprefix("perennial_"), []).append(sample.value)
    swapped = max(found.get("model_swapped_timestamp_seconds", []), default=0.0)
    return ServiceMetrics(
        version=int(min(found.get("model_version", []), default=0)),
        swapped_at=datetime.fromtimestamp(swapped, UTC) if swapped else None,
        predictions=int(sum(found.get("predictions_total", []))),
        labels=int(sum(found.get("labels_total", []))),
    )
