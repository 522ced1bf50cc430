"""The pace: what the service had been asked by the time that the loop reacted; the service is an HTTP server that notes it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from rich.console import Console

from deployments.prefect_client import FlowRun
from deployments.replay.driver import ReplayDriver
from deployments.replay.frozen_baseline import FrozenBaseline
from deployments.replay.pace import LoopPace
from deployments.replay.waits import LoopWaiter
from monitoring.policy import Flow
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.log_columns import EVENT_TIME
from perennial.spec import ModelSpec, WindowSpec
from tasks.serving.replay import prepare
from tests.deployments.replay.test_driver import MONDAY, a_result
from tests.support.http_server import QuietHandler, http_server
from tests.support.models import small_spec

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


EVENT = "5f0c8e1a-6a57-4b5e-9d6f-0a1b2c3d4e5f"


@dataclass
class RecordingWaiter(LoopWaiter):
    """A loop that reacts at once; of each wait it has the newest event time that the service had been asked by then."""

    asked: list[datetime] = field(default_factory=list)
    waits: list[tuple[str, datetime]] = field(default_factory=list)
    events: dict[datetime, str] = field(default_factory=dict)

    def wait_for_champion(self) -> int | None:
        return 1

    def wait_for_monitor(self, max_backlog: int = 0) -> None:
        """It is never behind."""

    def wait_for_window(self, window: Window) -> WindowResult | None:
        self.waits.append((f"{window.start:%d %H}", max(self.asked)))
        event = self.events.get(window.end)
        result = a_result("challenger" if event else "none", event_id=event)
        return result.model_copy(update={"findings": result.findings.model_copy(update={"window": window})})

    def wait_for_run(self, flow: Flow, event_id: str) -> FlowRun | None:
        self.waits.append((f"{flow} {event_id}", max(self.asked)))
        self.problems.append("it failed")
        return None


class NoBaseline:
    def window(self, window: Window) -> None:
        return None


class AnyRegistry:
    def aliases(self, model: str) -> Any:
        return self

    champion = 1

    def versions(self, model: str) -> list[int]:
        return [1]


@dataclass(frozen=True)
class AnyLoop:
    model: str = "small"
    home: Path = Path("no ledger")
    registry: AnyRegistry = field(default_factory=AnyRegistry)


@contextmanager
def service(asked: list[datetime], refusing: tuple[datetime, ...] = ()) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the base class's name
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            rows = body.get("instances", [])
            times = [datetime.fromisoformat(row["event_time"]) for row in rows]
            refused = any(time in refusing for time in times)
            asked.extend([] if refused else times)
            reply = json.dumps({"predictions": [{"id": row["id"]} for row in rows]}).encode()
            self.send_response(503 if refused else 200)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    with http_server(Handler) as url:
        yield url


def a_spec(length: timedelta, lateness: timedelta) -> ModelSpec:
    return small_spec().model_copy(update={"window": WindowSpec(length=length, lateness=lateness, min_rows=1)})


def a_table(every: timedelta, rows: int) -> pl.DataFrame:
    times = [MONDAY + number * every for number in range(rows)]
    columns = {"row_id": list(map(str, range(rows))), "asked_at": times, "amount": 1.0, "shop": "north", "outcome": 1}
    return pl.DataFrame(columns, schema_overrides={"asked_at": pl.Datetime("us", "UTC")})


def lived(
    spec: ModelSpec, table: pl.DataFrame, events: dict[datetime, str], refusing: tuple[datetime, ...] = ()
) -> RecordingWaiter:
    rows, console = prepare(table, spec), Console(file=StringIO())
    waiter = RecordingWaiter(cast(Any, AnyLoop()), events=events)
    pace = LoopPace(waiter, spec, cast(FrozenBaseline, NoBaseline()), console, rows[EVENT_TIME], MONDAY)
    with service(waiter.asked, refusing) as url:
        ReplayDriver(url, {}, spec.task, MONDAY, pace).replay(rows, None, DAY, console)
    return waiter


def test_a_window_is_judged_and_trained_for_before_any_row_that_comes_after_it_is_closed() -> None:
    table = a_table(timedelta(minutes=10), 6 * 24 * 3)
    found = lived(a_spec(DAY, 2 * HOUR), table, {MONDAY + DAY: EVENT}).waits
    closing = [MONDAY + DAY + 2 * HOUR + timedelta(minutes=20), MONDAY + 2 * DAY + 2 * HOUR + timedelta(minutes=20)]
    # The third row at or behind the end and the lateness closes a window: two wrong clocks close none.
    assert found == [("04 00", closing[0]), (f"retrain {EVENT}", closing[0]), ("05 00", closing[1])]


def test_windows_shorter_than_the_ticks_of_a_replay_are_waited_for_one_by_one() -> None:
    found = lived(a_spec(timedelta(minutes=20), timedelta(0)), a_table(timedelta(minutes=2), 31), {}).waits
    assert [newest - MONDAY for _, newest in found] == [timedelta(minutes=24), timedelta(minutes=44)]


@pytest.mark.parametrize("refused", [0, 3])
def test_rows_that_the_service_did_not_take_close_no_window(refused: int) -> None:
    table = a_table(HOUR, 30)
    times = table["asked_at"].to_list()[24 : 24 + refused]
    found = lived(a_spec(DAY, timedelta(0)), table, {}, tuple(times)).waits
    assert found == [("04 00", MONDAY + DAY + (2 + refused) * HOUR)]


def test_every_row_is_sent_once_however_ticks_are_cut() -> None:
    table = a_table(timedelta(minutes=2), 200)
    assert lived(a_spec(timedelta(minutes=20), timedelta(0)), table, {}).asked == table["asked_at"].to_list()
