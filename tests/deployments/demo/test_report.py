"""The report: the model's page with the frozen first model beside it, whole in one file."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from deployments.demo.evidence import Evidence
from deployments.demo.report import draw, write_report
from deployments.demo.summary import summarise
from deployments.replay.frozen_baseline import Comparison
from monitoring.page import ModelStory
from monitoring.window import window_at
from perennial.metrics import Metrics
from perennial.model_card import Cause
from tests.deployments.demo.test_summary import MARCH, evidence
from tests.deployments.replay.test_driver import MONDAY, WEEK, a_result
from tests.support.models import small_model

CARD = small_model().card
"""The cards of the evidence say only what the summary asks of them."""


def story(found: Evidence) -> ModelStory:
    keys = frozenset(one.window.key for one in found.windows)
    cards = [CARD.model_copy(update={"version": card.version, "cause": card.cause}) for card in found.cards]
    return ModelStory("flights", found.windows, found.moves, cards, reports=keys)


def page(found: Evidence, title: str = "A year of flights") -> str:
    return draw(title, found, summarise(found, 0.0, timedelta()), story(found))


@pytest.fixture
def judged() -> Evidence:
    """The window of 4 March asked for the retraining of version 2."""
    cards = [card.model_copy(update={"cause": Cause(kind="drift", event_id="event-1")}) for card in evidence().cards[1:2]]
    return replace(evidence(), windows=[a_result("drift", "over its bound", "event-1")], cards=cards)


def test_the_page_needs_no_network(judged: Evidence) -> None:
    assert "<script" not in page(judged)
    assert "<link" not in page(judged)


def test_drift_its_bound_both_sides_and_every_happening_are_drawn(judged: Evidence) -> None:
    shown = page(judged)
    for text in (
        "auc with the loop and with the first model frozen",
        "log_loss with the loop and with the first model frozen",
        "Drift of each window and its bound",
        "1,000 predictions, 900 labels, 1 windows; challengers trained: 2, promotions: 1, refusals: 1, rollbacks: 0; ",
        "mean AUC 0.7200 with the loop",
        "drift</strong>: over its bound",
        '<a href="#v-2">version 2</a>',
    ):
        assert text in shown


def test_a_window_that_is_still_open_is_drawn_with_its_labels() -> None:
    later = window_at(MONDAY + WEEK, WEEK)
    side = Metrics(rows=9, values={"auc": 0.7123})
    shown = page(replace(evidence(), windows=[a_result()], comparisons={later: Comparison(side, side)}))
    assert f"{later}: 0.7123" in shown


def test_what_came_from_outside_is_escaped(judged: Evidence) -> None:
    strange = judged.cards[0].model_copy(update={"cause": Cause.model_construct(kind="<drift>", event_id=None)})
    shown = page(replace(judged, cards=[strange]), title="<b>A year</b>")
    assert "&lt;drift&gt;" in shown
    assert "<b>A year</b>" not in shown


def test_a_regression_gets_its_own_metrics() -> None:
    side = Metrics(rows=9, values={"rmse": 2.0, "mae": 1.0})
    shown = page(replace(evidence(), comparisons={window_at(MONDAY, WEEK): Comparison(side, side)}))
    assert "rmse with the loop" in shown
    assert "auc with the loop" not in shown


def test_a_replay_without_windows_still_has_a_page() -> None:
    assert "No window has closed yet" in page(replace(evidence(), windows=[], comparisons={}, cards=[], moves=[]))


def test_the_files_are_written_and_the_versions_printed(judged: Evidence, tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    write_report(evidence(), summarise(evidence(), 0.0, timedelta()), tmp_path, story(judged), console)
    versions = orjson.loads((tmp_path / "summary.json").read_bytes())["versions"]
    assert [one["version"] for one in versions] == [1, 2, 3]
    (window,) = judged.windows
    assert f'href="flights/reports/{window.window.key}.html"' in (tmp_path / "timeline.html").read_text(encoding="utf-8")
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
