"""What the report is made of: what happened is put where in event time it was caused."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from deployments.demo.report import version_table
from deployments.demo.summary import summarise
from deployments.demo.timeline import timeline_marks, timeline_windows
from monitoring.window import window_at
from perennial.model_card import Cause
from perennial.spec import load_spec
from tests.deployments.demo.test_replay_driver import MONDAY, WEEK, a_result
from tests.deployments.demo.test_summary import MARCH, comparison, evidence

SPEC = load_spec(Path(__file__).parents[3] / "examples" / "flights.toml")


def test_an_event_its_run_and_the_gates_decision_stand_where_their_window_closed() -> None:
    asked = a_result("drift", "over its bound", "event-1")
    cards = [card.model_copy(update={"cause": Cause(kind="drift", event_id="event-1")}) for card in evidence().cards[1:2]]
    marks = timeline_marks(replace(evidence(), windows=[asked], cards=cards), SPEC)
    assert [mark.kind for mark in marks] == ["event", "retraining", "promotion"]
    assert {mark.at for mark in marks} == {MONDAY + WEEK + SPEC.window.lateness}


def test_the_first_champion_is_no_mark_although_its_promotion_is_an_event() -> None:
    assert timeline_marks(replace(evidence(), windows=[a_result()]), SPEC) == []


def test_a_window_that_is_still_open_is_shown_with_its_labels() -> None:
    later = window_at(MONDAY + WEEK, WEEK)
    closed, opened = timeline_windows(replace(evidence(), windows=[a_result()], comparisons={later: comparison(0.7, 0.6)}))
    assert (closed.start, closed.rows, closed.decision, closed.loop) == (MONDAY, 6_546, "none", {})
    assert (opened.start, opened.drift, opened.decision, opened.loop["auc"]) == (later.start, None, "still open", 0.7)


def test_the_table_has_a_row_per_version_under_its_head() -> None:
    head, *rows = version_table(summarise(evidence()))
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[1] == ["2", "drift", "promoted", f"{MARCH + timedelta(days=7):%d %b %Y}", "6,000", "0.7000", "0.7400"]
    assert len(head) == len(rows[0])
