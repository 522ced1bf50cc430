"""The pace of a replay: what is sent before the loop has reacted, so that it reacts at the event time it would have.

A tick is cut behind each row that closes a window. The replay goes on when the monitor has judged that window on everything that
was sent, and when the training or promotion which the window asks for has ended: neither knows a row that came later. Once a day
of event time it waits until the monitor is close behind. Which windows fall due is the monitor's own arithmetic.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import polars as pl
from rich.console import Console

from deployments.prefect_client import FlowRun
from deployments.replay.display import ReplayProgress, outcome_text, print_line, window_line
from deployments.replay.frozen_baseline import FrozenBaseline
from deployments.replay.waits import LoopWaiter
from monitoring.ledger import read_entry
from monitoring.policy import Flow
from monitoring.state import WindowResult
from monitoring.window import Asked, Window, due_windows, newest_rows, watermark, window_at
from perennial.log_columns import EVENT_TIME, ID
from perennial.spec import ModelSpec
from tasks.serving.replay import Rows, Sent, Tick

MAX_BACKLOG = 200  # stream entries the monitor may be behind: four days of hourly requests


class LoopPace:
    """Holds one replay back for the loop of its model; `times` are the event times of its rows, of which there is one.

    It does not wait for what windows asked for that were closed before `began`, by an earlier replay, and that has ended.
    """

    def __init__(
        self, waiter: LoopWaiter, spec: ModelSpec, baseline: FrozenBaseline, console: Console, times: pl.Series, began: datetime
    ) -> None:
        self.waiter, self._spec, self._baseline, self._console, self._began = waiter, spec, baseline, console, began
        self._closed_until, self._newest, self._dates = times[0], tuple[Asked, ...](), times.dt.date().unique().to_list()
        self._today = times[0].date()

    def begin(self, progress: ReplayProgress) -> None:
        """Until the champion answers."""
        progress.version = self.waiter.wait_for_champion()

    def parts(self, tick: Tick) -> Iterator[Tick]:
        """The tick, cut behind each row that closes a window; its labels come first."""
        rest = tick
        while (count := self._closing_row(rest.rows)) < len(rest.rows):
            yield replace(rest, rows=rest.rows[:count])
            rest = Tick(tick.clock, rest.rows[count:], [])
        yield rest

    def before(self, part: Tick) -> None:
        """Wait for the monitor where a window closes next, or a day is over."""
        if self._due(part.rows):
            # What was sent before a window closes must be in it, or two runs would not give the same windows.
            self.waiter.wait_for_monitor()
        elif part.clock.date() != self._today:
            self.waiter.wait_for_monitor(MAX_BACKLOG)
        self._today = part.clock.date()

    def after(self, part: Tick, sent: Sent, progress: ReplayProgress) -> None:
        """Wait for the windows that the part has closed and for what they ask for; rows that were not taken close none."""
        if sent.failed:
            return
        due = self._due(part.rows)
        self._newest = newest_rows(self._newest, _asked(part.rows))
        for window in due:
            self._closed_until = window.end
            self._await_window(window, progress)

    def end(self) -> None:
        """Until everything is in the archive."""
        self.waiter.wait_for_monitor()

    def _closing_row(self, rows: Rows) -> int:
        """How many of the rows it takes to close the next window; all of them where they close none."""
        if not self._due(rows):
            return len(rows)
        few, enough = 0, len(rows)
        while few + 1 < enough:  # they are in the order of time
            middle = (few + enough) // 2
            few, enough = (few, middle) if self._due(rows[:middle]) else (middle, enough)
        return enough

    def _due(self, rows: Rows) -> list[Window]:
        """The windows that these rows close; labels alone close none."""
        spec, reached = self._spec.window, watermark(newest_rows(self._newest, _asked(rows)))
        if reached is None or window_at(self._closed_until, spec.length).end + spec.lateness > reached:
            return []
        return list(due_windows(spec, self._closed_until, reached, self._dates))

    def _await_window(self, window: Window, progress: ReplayProgress) -> None:
        """Wait for the window's result and for the flow it requests; show both."""
        if (result := self.waiter.wait_for_window(window)) is None:
            return
        comparison = self._baseline.window(window)
        progress.windows.append((result, comparison))
        print_line(self._console, window_line(result, comparison, self._spec.task))
        flow, event_id = result.decision.flow, result.decision.event_id
        if flow is not None and event_id is not None and not self._is_over(result, event_id):
            self._show_run(flow, self.waiter.wait_for_run(flow, event_id), progress)
        elif result.decision.kind == "rollback":
            progress.version = self.waiter.wait_for_champion()

    def _is_over(self, result: WindowResult, event_id: str) -> bool:
        entry = read_entry(self.waiter.loop.home, event_id)
        return result.closed_at < self._began and entry is not None and entry.outcome is not None

    def _show_run(self, flow: Flow, run: FlowRun | None, progress: ReplayProgress) -> None:
        loop = self.waiter.loop
        before, after, newest = (
            progress.version,
            loop.registry.aliases(loop.model).champion,
            loop.registry.versions(loop.model)[-1],
        )
        outcome = outcome_text(flow, before, after, newest, run.message if run else "")
        text = f"{run.name} ended {run.state.lower()}; {outcome}" if run else self.waiter.problems[-1]
        print_line(self._console, f"  {flow}: {text}")
        progress.version, progress.runs = after, progress.runs + (run is not None)


def _asked(rows: Rows) -> Iterator[Asked]:
    return ((row[EVENT_TIME], row[ID]) for row in rows)
