"""The page: a pure function of a model's files that says what was found, decided and done, and what came true."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monitoring.avoidable_loss import ExcessLoss
from monitoring.champion_account import AccountStatement, PairedLoss
from monitoring.diagnosis import Diagnosis
from monitoring.ledger import record_outcome, start
from monitoring.page import ModelStory, draw_page, read_story, write_page
from monitoring.page.chart import Point, Series, Strip
from monitoring.page.story import prefect_ui
from monitoring.page.strips import event_time, lanes
from monitoring.policy import Decision
from monitoring.report import report_path
from monitoring.state import WindowResult, save_result
from monitoring.window import Window, window_at
from perennial.model_card import Cause
from perennial.registry import CHAMPION, Registry
from perennial.settings import PAGE
from tests.monitoring.results import result_of
from tests.support.models import START, publish_small, small_frame, small_model

WEEK = timedelta(days=7)
MODEL = small_model()
WALL = datetime(2024, 6, 1, tzinfo=UTC)
EVENT = "2040437a-f27b-59a6-ae93-1013b88520fc"
RUN = "2f572d2b-7423-4b02-acc8-90893d9ee4e5"


def week(number: int) -> Window:
    return window_at(START + (8 + number) * WEEK, WEEK)


def a_week(number: int, decision: Decision | None = None, account: AccountStatement | None = None) -> WindowResult:
    table = MODEL.compiled.table(small_frame(rows=50, start=week(number).start, shift=0.5 * number))
    kind = Diagnosis(kind="covariate drift", reason="the rows became harder", features=("amount",))
    return result_of(MODEL, week(number), table, 0.2, decision, kind, account, closed_at=WALL + timedelta(hours=number))


def an_account() -> AccountStatement:
    beside = PairedLoss(
        window=week(1), version=2, rows=40, champion_loss=0.61, other_loss=0.52, difference=ExcessLoss(excess=0.17, error=0.02)
    )
    return AccountStatement(
        champion=1,
        windows=2,
        avoidable=0.23,
        error=0.03,
        cost=0.2,
        due=True,
        newest=beside,
        predecessor=beside.model_copy(update={"version": 7}),
        promised=-0.07,
        turned_out=-0.02,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A model that drifted, was trained again and promoted, with its files as the loop leaves them."""
    home, registry = tmp_path / "small", Registry(str(tmp_path / "registry"))
    publish_small(registry, MODEL)
    save_result(home, a_week(0))
    save_result(home, a_week(1, Decision(kind="drift", reason="drift 0.5 is over its bound 0.2", event_id=EVENT), an_account()))
    caused = MODEL.card.model_copy(
        update={"cause": Cause(kind="drift", event_id=EVENT), "trained_at": WALL + timedelta(hours=1.5), "wandb_run": "run-<7>"}
    )
    publish_small(registry, type(MODEL)(**{**vars(MODEL), "card": caused}))
    start(home, EVENT, WALL, RUN)
    record_outcome(home, EVENT, "challenger", WALL, RUN)
    save_result(home, a_week(2))
    report_path(home, week(1)).parent.mkdir()
    report_path(home, week(1)).touch()
    return home


def story(home: Path) -> ModelStory:
    return read_story(home, Registry(str(home.parent / "registry")), "small", "http://prefect.test/api")


def test_a_window_is_told_with_its_diagnosis_account_decision_and_what_came_of_it(home: Path) -> None:
    page = draw_page(story(home))
    for text in (
        "drift</strong>: drift 0.5 is over its bound 0.2",
        "covariate drift: the rows became harder (amount)",
        "avoidable loss 0.23 ± 0.03 of 0.2 in 2 windows, which pays a promotion",
        "promised -7.0% of the loss, turned out -2.0% beside version 7",
        '&rarr; challenger: <a href="#v-2">version 2</a>',
        f'<a href="http://prefect.test/runs/flow-run/{RUN}">Prefect run</a>',
        f'<a href="reports/{week(1).key}.html">Evidently report</a>',
        "run-&lt;7&gt;",
    ):
        assert text in page
    assert f"reports/{week(0).key}.html" not in page
    assert "run-<7>" not in page


def test_the_page_is_whole_in_one_file_and_its_links_lead_somewhere(home: Path) -> None:
    page = draw_page(story(home))
    found = _Links(page)
    assert "<script" not in page
    assert "<link" not in page
    assert found.targets
    assert not [target for target in found.targets if target.startswith("#") and target[1:] not in found.ids]
    assert len(found.ids) == len(set(found.ids))


class _Links(HTMLParser):
    """What a page links to, what can be linked to, and that every element is closed where it was opened."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets, self.ids, self._open = list[str](), list[str](), list[str]()
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.targets += [named["href"] or ""] if tag in ("a", "use") else []
        self.ids += [named["id"] or ""] if "id" in named else []
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_what_happened_in_wall_time_stands_where_event_time_had_come_to(home: Path) -> None:
    told = story(home)
    lateness = MODEL.card.spec.window.lateness
    assert event_time(WALL + timedelta(minutes=90), told) == week(1).end + lateness
    assert event_time(WALL - timedelta(days=1), told) == week(0).start
    marks = {lane.name: [(mark.at, mark.label) for mark in lane.marks] for lane in lanes(told)}
    assert marks["event: drift"] == [(week(1).end + lateness, "v1")]
    assert marks["training"][-1] == (week(1).end + lateness, "v2")


def test_every_mark_can_be_reached_and_read_without_colour(home: Path) -> None:
    page = draw_page(story(home))
    assert 'aria-label="drift: drift 0.5 is over its bound 0.2"' in page
    assert '<use href="#m-diamond"' in page
    assert ">!</text>" in page


def test_strips_of_others_are_drawn_and_escaped(home: Path) -> None:
    more = Strip("auc <b>", (Series("frozen", (Point(week(0).start, 0.7123, "0.7123 <i>"),), "square"),))
    page = draw_page(story(home), title="<b>A year</b>", subtitle="1,000 rows", more=[more])
    assert "auc &lt;b&gt;" in page
    assert "0.7123 &lt;i&gt;" in page
    assert "<b>A year</b>" not in page


def test_a_model_without_anything_has_a_page(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    assert write_page(tmp_path / "new", registry, "new") == tmp_path / "new" / PAGE
    assert "no window has closed yet" in (tmp_path / "new" / PAGE).read_text()


def test_a_long_history_is_cut_and_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.page.story.MOST_WINDOWS", 2)
    told = story(home)
    assert [one.window for one in told.windows] == [week(1), week(2)]
    assert "1 earlier windows are in" in draw_page(told)


def test_a_rollback_is_shown_with_its_reason(home: Path) -> None:
    registry, version = Registry(str(home.parent / "registry")), 2
    champion = registry.aliases("small").champion
    if champion != version:
        registry.promote("small", CHAMPION, version, expect=champion, reason="pays", now=WALL + timedelta(hours=2))
    registry.roll_back("small", 1, expect=version, reason="it is <worse>", now=WALL + timedelta(hours=3))
    told = story(home)
    assert told.champion == 1
    assert "rollback" in {lane.name for lane in lanes(told)}
    assert "it is &lt;worse&gt;" in draw_page(told)


@pytest.mark.parametrize(
    ("api", "address"),
    [
        (None, None),
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200"),
        ("https://api.prefect.cloud/api/accounts/a/workspaces/w", "https://app.prefect.cloud/account/a/workspace/w"),
    ],
)
def test_prefects_pages_are_found_from_its_api(api: str | None, address: str | None) -> None:
    assert prefect_ui(api) == address


def test_drawing_imports_neither_evidently_nor_pandas_nor_plotly() -> None:
    code = "import sys, monitoring.page; print([name for name in ('evidently', 'pandas', 'plotly') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip() == "[]"
