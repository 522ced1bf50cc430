"""What the replay waits for, and how long at most.

The demo sends a year in minutes, and a loop that reacts within seconds would miss event time; so the replay stands still
until the loop has reacted. A wait polls outcomes only: window files, flow runs, the registry, the version that serves. A
monitor that does not catch up ends the demo (StackError); a retraining that does not come is noted in `problems` and the
replay goes on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TypeVar

import redis

from deployments.demo.service_metrics import ServiceMetrics, scrape
from deployments.prefect_client.client import FlowRun
from deployments.prefect_client.history import PrefectHistory
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.errors import PrefectUnreachable, StackError, StoreUnreachable
from perennial.registry import Registry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import labels_stream, predictions_stream

T = TypeVar("T")

MAX_BACKLOG = 200
"""Stream entries the monitor may be behind: four days of hourly requests."""

MONITOR_TIMEOUT = timedelta(seconds=480)
"""For the monitor to catch up or to close a window: should a run of it die, the schedule brings the next in 300 s."""

START_TIMEOUT = timedelta(seconds=180)
"""From a confirmed event to its flow run: ten times what a busy machine needs, or a restart of the server."""

RETRAIN_TIMEOUT = timedelta(seconds=900)
"""For one retraining."""

SWAP_TIMEOUT = timedelta(seconds=30)
"""From a promotion until every worker answers with it; the service promises two seconds."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=0.02), timedelta(seconds=0.5)
"""Between two looks: doubled from the first to the longest."""


@dataclass(frozen=True)
class LoopHandles:
    """Where the components of one running loop are found."""

    model: str
    home: Path
    service_url: str
    store_url: str
    store: redis.Redis
    registry: Registry
    history: PrefectHistory
    authorization: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that carry an API key of the service."""


@dataclass
class LoopWaiter:
    """Waits for one loop; calls `notice` with what it waits for, and collects in `problems` what it went on without."""

    loop: LoopHandles
    notice: Callable[[str], None]
    problems: list[str] = field(default_factory=list)
    swaps: dict[int, datetime] = field(default_factory=dict)
    """When the last worker began to answer with a version."""

    def wait_for_monitor(self, max_backlog: int = MAX_BACKLOG) -> None:
        """Until at most `max_backlog` stream entries wait for the archive; raises StackError when it does not catch up."""
        self._wait(lambda: backlog(self.loop) <= max_backlog or None, MONITOR_TIMEOUT, "the monitor to catch up")

    def wait_for_archive(self) -> None:
        """Until the streams are empty."""
        self.wait_for_monitor(max_backlog=0)

    def wait_for_window(self, window: Window) -> WindowResult:
        """Until the window's result is on disk; raises StackError when the monitor does not close it."""
        return self._wait(lambda: self._result(window), MONITOR_TIMEOUT, f"the monitor to close the window {window}")

    def wait_for_retraining(self, event_id: str) -> FlowRun | None:
        """Until the retraining that the event started has ended and what it promoted serves; None with a problem noted."""
        history = self.loop.history
        try:
            self._wait(lambda: history.run_for(event_id), START_TIMEOUT, f"an automation to answer event {event_id}")
            run = self._wait(lambda: self._ended(event_id), RETRAIN_TIMEOUT, f"the retraining for event {event_id} to end")
            if run.state != "COMPLETED":
                self.problems.append(f"retraining {run.name} ended {run.state}: {run.message}")
            self.wait_for_champion()
            return run
        except StackError as error:
            self.problems.append(str(error))
            return None

    def wait_for_champion(self) -> int | None:
        """Until every worker answers with the champion; keeps when that began in `swaps`."""
        champion = self.loop.registry.aliases(self.loop.model).champion
        if champion is not None and champion not in self.swaps:
            metrics = self._wait(lambda: self._serving(champion), SWAP_TIMEOUT, f"the service to answer with version {champion}")
            if metrics.swapped_at is not None:
                self.swaps[champion] = metrics.swapped_at
        return champion

    def _result(self, window: Window) -> WindowResult | None:
        return next((result for result in reversed(load_results(self.loop.home)) if result.window == window), None)

    def _ended(self, event_id: str) -> FlowRun | None:
        run = self.loop.history.run_for(event_id)
        return run if run is not None and run.terminal else None

    def _serving(self, version: int) -> ServiceMetrics | None:
        metrics = scrape(self.loop.service_url, self.loop.authorization)
        return metrics if metrics.version == version else None

    def _wait(self, look: Callable[[], T | None], timeout: timedelta, what: str) -> T:
        self.notice(f"waiting for {what}")
        try:
            return poll_until(look, timeout, what)
        finally:
            self.notice("")


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


def backlog(loop: LoopHandles) -> int:
    """Entries of both streams that are not in the archive yet: the monitor trims an entry once it is."""
    with translate_redis_errors(loop.store_url):
        return sum(int(loop.store.xlen(stream(loop.model))) for stream in (predictions_stream, labels_stream))
