"""The driver's decisions: when a window falls due, what is waited for and how long, what a window's line says."""

from collections import deque
from datetime import UTC, datetime, timedelta

import pytest

from deployments.demo.replay_driver import outcome_text, pop_due_windows, window_line
from deployments.demo.waits import poll_until
from monitoring.policy import Decision, Findings
from monitoring.state import WindowResult
from monitoring.window import due_windows, window_at
from perennial.errors import PrefectUnreachable, StackError
from perennial.spec import WindowSpec
from tests.deployments.demo.test_summary import comparison

MONDAY = datetime(2013, 3, 4, tzinfo=UTC)
WEEK, LATENESS = timedelta(days=7), timedelta(hours=36)


def a_result(kind: str = "none", reason: str = "within bounds", event_id: str | None = None) -> WindowResult:
    """A week that was judged."""
    return WindowResult(
        model="flights",
        version=3,
        findings=Findings(
            window=window_at(MONDAY, WEEK), rows=6_546, labelled=6_500, values={"drift": 0.125}, bounds={"drift": 0.25}
        ),
        rows_by_version={3: 6_546},
        distances={},
        metrics=None,
        served_metrics=None,
        unknown_categories={},
        decision=Decision(kind=kind, reason=reason, event_id=event_id),  # type: ignore[arg-type]
        report=None,
        closed_at=MONDAY,
    )


def test_a_window_is_due_when_the_monitor_thinks_so_too() -> None:
    windows = [window_at(MONDAY + number * WEEK, WEEK) for number in range(3)]
    spec = WindowSpec(length=WEEK, lateness=LATENESS)
    days = {MONDAY.date() + timedelta(days=number) for number in range(21)}
    for hours in range(0, 21 * 24, 6):
        watermark = MONDAY + timedelta(hours=hours)
        assert pop_due_windows(deque(windows), watermark, LATENESS) == list(due_windows(spec, MONDAY, watermark, days))


def test_a_window_falls_due_once() -> None:
    pending = deque([window_at(MONDAY, WEEK)])
    assert pop_due_windows(pending, MONDAY + WEEK + LATENESS, LATENESS)
    assert pop_due_windows(pending, MONDAY + 2 * WEEK, LATENESS) == []


def test_labels_alone_do_not_move_the_watermark() -> None:
    assert pop_due_windows(deque([window_at(MONDAY, WEEK)]), None, LATENESS) == []


def test_what_is_waited_for_is_returned_and_an_api_that_restarts_is_waited_for() -> None:
    answers = iter([PrefectUnreachable("gone"), None, "there"])

    def look() -> str | None:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert poll_until(look, timedelta(seconds=10), "the answer") == "there"


def test_a_timeout_names_what_did_not_come_and_the_last_error() -> None:
    def look() -> None:
        raise PrefectUnreachable("no route")

    with pytest.raises(StackError, match="in vain for the window to close; last error: no route"):
        poll_until(look, timedelta(seconds=0.05), "the window to close")


def test_a_mistake_of_ours_is_not_waited_out() -> None:
    with pytest.raises(ZeroDivisionError):
        poll_until(lambda: 1 // 0, timedelta(seconds=10), "the impossible")


def test_a_line_says_what_the_window_was_and_what_was_decided() -> None:
    assert window_line(a_result(), comparison(0.7, 0.65), "auc") == (
        "04 Mar to 11 Mar   6,546 rows  v3  drift 0.1250 (bound 0.2500)  AUC 0.7000 (frozen 0.6500)  within bounds"
    )
    assert window_line(a_result("drift", "0.4 is over 0.25"), None, "auc").endswith("AUC - (frozen -)  DRIFT: 0.4 is over 0.25")


def test_a_retraining_is_described_by_its_outcome() -> None:
    assert outcome_text(1, 2, 2, "") == "version 2 answers now"
    assert outcome_text(1, 1, 2, "") == "the gate refused version 2, version 1 answers on"
    assert outcome_text(1, 1, 2, "settled by version 1") == "settled by version 1; version 1 answers on"
