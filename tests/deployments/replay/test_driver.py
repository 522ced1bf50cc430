"""The driver's decisions: what is waited for and how long, what a window's line says."""

from datetime import UTC, datetime, timedelta

import pytest

from deployments.replay.display import outcome_text, window_line
from deployments.replay.waits import poll_until
from monitoring.policy import Decision, Findings
from monitoring.state import WindowResult
from monitoring.window import window_at
from perennial.errors import PrefectUnreachable, StackError
from tests.deployments.demo.test_summary import comparison

MONDAY = datetime(2013, 3, 4, tzinfo=UTC)
WEEK = timedelta(days=7)


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
    assert window_line(a_result(), comparison(0.7, 0.65), "binary") == (
        "04 Mar to 11 Mar   6,546 rows  v3  drift 0.1250 (bound 0.2500)  AUC 0.7000 (frozen 0.6500)  avoidable -  diagnosis -  "
        "within bounds"
    )
    assert window_line(a_result("drift", "0.4 is over 0.25"), None, "binary").endswith(
        "AUC - (frozen -)  avoidable -  diagnosis -  DRIFT: 0.4 is over 0.25"
    )


def test_a_retraining_is_described_by_its_outcome() -> None:
    assert outcome_text("promote", 1, 2, 2, "") == "version 2 answers now"
    assert outcome_text("promote", 1, 1, 2, "") == "the gate refused version 2, version 1 answers on"
    assert outcome_text("retrain", 1, 1, 2, "") == "version 2 shadows, version 1 answers on"
    assert outcome_text("retrain", 1, 1, 2, "settled by version 1") == "settled by version 1; version 1 answers on"
