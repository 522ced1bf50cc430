"""Holding the clock: what the replay waits for, and how long at most.

A year in a quarter of an hour leaves a loop that reacts in seconds no event time to react in; so the clock stands still
while it does. Only outcomes are looked at: windows on disk, flow runs, the registry, the version that serves.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TypeVar

import redis

from deployments.demo.service_metrics import Scraped, scrape
from deployments.prefect_client.history import Run, Witness
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.errors import PrefectUnreachable, StackError, StoreUnreachable
from perennial.registry import Registry
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import labels_stream, predictions_stream

T = TypeVar("T")

WITHIN_REACH = 200
"""Stream entries the monitor may be behind: four days of hourly requests."""

MONITOR_PATIENCE = 480.0
"""Seconds for the monitor to catch up or to close a window: should a run of it die, the schedule brings the next in 300."""

START_PATIENCE = 180.0
"""Seconds from a confirmed event to its flow run: ten times what a busy machine needs, or a restart of the server."""

RETRAIN_PATIENCE = 900.0
"""Seconds for one retraining."""

SWAP_PATIENCE = 30.0
"""Seconds from a promotion until every worker answers with it; the service promises two."""


@dataclass(frozen=True)
class Loop:
    """Where the parts of one running loop are found."""

    model: str
    home: Path
    service_url: str
    store_url: str
    store: redis.Redis
    registry: Registry
    witness: Witness
    authorization: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that show the service a key."""


@dataclass
class Hold:
    """Waits for one loop; `notice` is told what for, `problems` collects what did not come and was gone on without."""

    loop: Loop
    notice: Callable[[str], None]
    problems: list[str] = field(default_factory=list)
    swaps: dict[int, datetime] = field(default_factory=dict)

    def for_monitor(self, most: int = WITHIN_REACH) -> None:
        """Until at most `most` stream entries wait for the archive; raises StackError when it does not catch up."""
        self._wait(lambda: backlog(self.loop) <= most or None, MONITOR_PATIENCE, "the monitor to catch up")

    def for_window(self, window: Window) -> WindowResult:
        """Until the window's result is on disk; raises StackError when the monitor does not close it."""
        return self._wait(lambda: self._result(window), MONITOR_PATIENCE, f"the monitor to close the window {window}")

    def for_retraining(self, event_id: str) -> Run | None:
        """Until the retraining that the event started has ended and what it promoted serves; gone on without, but noted."""
        try:
            self._wait(lambda: self.loop.witness.run_for(event_id), START_PATIENCE, f"an automation to answer event {event_id}")
            run = self._wait(lambda: self._ended(event_id), RETRAIN_PATIENCE, f"the retraining for event {event_id} to end")
            if run.state != "COMPLETED":
                self.problems.append(f"retraining {run.name} ended {run.state}: {run.message}")
            self.for_champion()
            return run
        except StackError as error:
            self.problems.append(str(error))
            return None

    def for_champion(self) -> int | None:
        """Until every worker answers with the champion; remembers when that began."""
        champion = self.loop.registry.aliases(self.loop.model).champion
        if champion is not None and champion not in self.swaps:
            scraped = self._wait(lambda: self._serving(champion), SWAP_PATIENCE, f"the service to answer with version {champion}")
            if scraped.swapped_at is not None:
                self.swaps[champion] = scraped.swapped_at
        return champion

    def for_archive(self) -> None:
        """Until nothing waits in the streams any more."""
        self.for_monitor(most=0)

    def _result(self, window: Window) -> WindowResult | None:
        return next((result for result in reversed(load_results(self.loop.home)) if result.window == window), None)

    def _ended(self, event_id: str) -> Run | None:
        run = self.loop.witness.run_for(event_id)
        return run if run is not None and run.terminal else None

    def _serving(self, version: int) -> Scraped | None:
        scraped = scrape(self.loop.service_url, self.loop.authorization)
        return scraped if scraped.version == version else None

    def _wait(self, look: Callable[[], T | None], patience: float, what: str) -> T:
        self.notice(f"waiting for {what}")
        try:
            return patiently(look, patience, what)
        finally:
            self.notice("")


def patiently(look: Callable[[], T | None], patience: float, what: str) -> T:
    """Look until there is something; raises StackError naming what was waited for. A part that restarts is waited out."""
    deadline, pause, last = time.monotonic() + patience, 0.02, ""
    while time.monotonic() < deadline:
        try:
            if (found := look()) is not None:
                return found
        except (PrefectUnreachable, StoreUnreachable, StackError) as error:
            last = f"; last error: {error}"
        Event().wait(pause)
        pause = min(2 * pause, 0.5)
    raise StackError(f"waited {patience:.0f} s in vain for {what}{last}; see the logs with `perennial status`")


def backlog(loop: Loop) -> int:
    """Entries of both streams that are not in the archive yet: an entry is trimmed when it is, and never before."""
    with translate_redis_errors(loop.store_url):
        return sum(int(loop.store.xlen(stream(loop.model))) for stream in (predictions_stream, labels_stream))
