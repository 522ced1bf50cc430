"""The driver of a replay: sends a table tick by tick, as fast as the service answers or at the pace of a loop, and shows it.

It decides nothing about the model, and never sends anything again.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl
from rich.console import Console
from rich.live import Live

from deployments.replay.display import ReplayProgress, panel
from deployments.replay.pace import LoopPace
from tasks.serving.replay import Client, Sent, Tick, ticks


class ReplayDriver:
    """One replay from `start` on against the service in which a model answers at `url`; without a pace it is free-running."""

    def __init__(self, url: str, headers: Mapping[str, str], task: str, start: datetime, pace: LoopPace | None = None) -> None:
        self._url, self._headers, self._start, self._pace = url, headers, start, pace
        self.progress = ReplayProgress(start, task, paced=pace is not None)

    def replay(self, rows: pl.DataFrame, until: datetime | None, label_delay: timedelta, console: Console) -> Sent:
        """Send all rows from the start to `until` and their labels; a paced one ends when all of it is in the archive."""
        if self._pace is not None:
            self._pace.begin(self.progress)
        live = Live(get_renderable=lambda: panel(self.progress, self._waiting), console=console, transient=True)
        with live, Client(self._url, headers=self._headers) as client:
            for tick in ticks(rows, self._start, until, label_delay):
                self._send_tick(client, tick)
            if self._pace is not None:
                self._pace.end()
            return client.total

    def _send_tick(self, client: Client, tick: Tick) -> None:
        if self._pace is None:
            self._send(client, tick)
            return
        for part in self._pace.parts(tick):
            self._pace.before(part)
            self._pace.after(part, self._send(client, part), self.progress)

    def _send(self, client: Client, tick: Tick) -> Sent:
        began = time.perf_counter()
        sent = client.send(tick)
        self.progress.sending_s += time.perf_counter() - began
        self.progress.clock, self.progress.sent = tick.clock, client.total
        return sent

    @property
    def _waiting(self) -> str:
        return self._pace.waiter.waiting if self._pace is not None else ""
