"""The report: what happened is put where in event time it was caused, on a page that is whole in one file."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from deployments.demo.evidence import Evidence
from deployments.demo.frozen_baseline import Comparison
from deployments.demo.report import draw, timeline_marks, write_report
from deployments.demo.summary import summarise
from monitoring.window import window_at
from perennial.metrics import Metrics
from perennial.model_card import Cause
from perennial.spec import load_spec
from tests.deployments.demo.test_replay_driver import MONDAY, WEEK, a_result
from tests.deployments.demo.test_summary import MARCH, evidence

SPEC = load_spec(Path(__file__).parents[3] / "examples" / "flights.toml")
LATENESS = SPEC.window.lateness


def page(found: Evidence, title: str = "A year of flights") -> str:
    return draw(title, found, summarise(found, 0.0, timedelta()), LATENESS)


@pytest.fixture
def judged() -> Evidence:
    """The window of 4 March asked for the retraining of version 2."""
    cards = [card.model_copy(update={"cause": Cause(kind="drift", event_id="event-1")}) for card in evidence().cards[1:2]]
    return replace(evidence(), windows=[a_result("drift", "over its bound", "event-1")], cards=cards)


def test_an_event_its_run_and_the_gates_decision_stand_where_their_window_closed(judged: Evidence) -> None:
    marks = timeline_marks(judged, LATENESS)
    assert {kind: len(found) for kind, found in marks.items()} == {"refusal": 0, "promotion": 1, "training": 1, "event": 1}
    assert {at for found in marks.values() for at, _ in found} == {MONDAY + WEEK + LATENESS}


def test_the_first_champion_is_no_mark_although_its_promotion_is_an_event() -> None:
    assert not any(timeline_marks(replace(evidence(), windows=[a_result()]), LATENESS).values())


def test_the_page_needs_no_network(judged: Evidence) -> None:
    assert "<script src=" not in page(judged)
    assert "<link" not in page(judged)
    assert "Plotly.newPlot" in page(judged)


def test_drift_its_bound_both_sides_and_every_happening_are_drawn(judged: Evidence) -> None:
    shown = page(judged)
    for text in (
        "auc (higher is better)",
        "log_loss (lower is better)",
        "frozen first model",
        '"name":"bound"',
        '"name":"drift"',
        "1,000 predictions, 900 labels, 1 windows; challengers trained: 2, promotions: 1, refusals: 1, rollbacks: 0; ",
        "mean AUC 0.7200 with the loop",
        *(text for found in timeline_marks(judged, LATENESS).values() for _, text in found),
    ):
        assert text in shown


def test_a_window_that_is_still_open_is_drawn_with_its_labels() -> None:
    later = window_at(MONDAY + WEEK, WEEK)
    side = Metrics(rows=9, values={"auc": 0.7123})
    shown = page(replace(evidence(), windows=[a_result()], comparisons={later: Comparison(side, side)}))
    assert "0.7123" in shown
    assert f"{MONDAY + 1.5 * WEEK:%Y-%m-%dT%H}" in shown


def test_what_came_from_outside_is_escaped(judged: Evidence) -> None:
    strange = judged.cards[0].model_copy(update={"cause": Cause.model_construct(kind="<drift>", event_id=None)})
    shown = page(replace(judged, cards=[strange]), title="<b>A year</b>")
    assert "&lt;drift&gt;" in shown
    assert "<b>A year</b>" not in shown


def test_a_regression_gets_its_own_metrics() -> None:
    side = Metrics(rows=9, values={"rmse": 2.0, "mae": 1.0})
    shown = page(replace(evidence(), comparisons={window_at(MONDAY, WEEK): Comparison(side, side)}))
    assert "rmse (lower is better)" in shown
    assert "(higher is better)" not in shown


def test_a_replay_without_windows_still_has_a_page() -> None:
    assert "Plotly.newPlot" in page(replace(evidence(), windows=[], comparisons={}, cards=[]))


def test_the_files_are_written_and_the_versions_printed(judged: Evidence, tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    write_report(evidence(), summarise(evidence(), 0.0, timedelta()), tmp_path, SPEC, console)
    versions = orjson.loads((tmp_path / "summary.json").read_bytes())["versions"]
    assert [one["version"] for one in versions] == [1, 2, 3]
    assert "Plotly.newPlot" in (tmp_path / "timeline.html").read_text(encoding="utf-8")
    row = next(line for line in console.export_text().splitlines() if line.startswith("2 "))
    assert row.split() == [
        "2",
        "drift",
        "promoted",
        *f"{MARCH + timedelta(days=7):%d %b %Y}".split(),
        "6,000",
        "0.7000",
        "0.7400",
    ]
