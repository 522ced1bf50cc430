"""The demo: the quick one, once, as people run it; and the small decisions around it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from deployments.demo.demo import QUICK_UNTIL, DemoOptions, demo_options, demo_settings
from deployments.demo.display import Display, LiveDisplay, Snapshot, display_on, panel
from deployments.demo.report import exit_code
from deployments.demo.summary import unmet_goals
from perennial.settings import Settings
from tests.deployments.demo.test_summary import evidence, summarise

QUICK_TIMEOUT = 900
"""Seconds: twice what is promised, because the suite shares the cores."""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one quick demo left: exit code, output, summary.json, home."""
    home = tmp_path_factory.mktemp("quick")
    # The stack's own Prefect server: event ids are the same in every demo, and a server answers each only once.
    environ = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "PREFECT_HOME")}
    command = [str(Path(sys.executable).with_name("perennial")), "demo", "--quick"]
    done = subprocess.run(
        command,
        env=environ | {"PERENNIAL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=QUICK_TIMEOUT,
        check=False,
    )
    summary = home / "demo" / "summary.json"
    found = json.loads(summary.read_bytes()) if summary.exists() else {}
    return {"code": done.returncode, "output": done.stdout, "summary": found, "home": home / "demo"}


@pytest.mark.timeout(QUICK_TIMEOUT + 60)
class TestQuickDemo:
    """Two months of real flights through every real part."""

    def test_it_ends_well_and_says_so(self, quick: dict[str, Any]) -> None:
        assert quick["code"] == 0, quick["output"][-5_000:]
        assert "yes" in quick["output"]

    def test_its_first_line_is_progress_and_no_warning(self, quick: dict[str, Any]) -> None:
        assert quick["output"].startswith("store: starting\n"), quick["output"][:500]

    def test_nothing_is_lost(self, quick: dict[str, Any]) -> None:
        summary = quick["summary"]
        assert summary["requests_failed"] == 0
        assert summary["predictions_archived"] == summary["predictions_answered"] == summary["predictions_counted_by_service"]
        assert summary["labels_joined"] == summary["labels_sent"] == summary["labels_counted_by_service"]

    def test_every_window_that_fell_due_was_closed(self, quick: dict[str, Any]) -> None:
        # From Monday 25 February; the one that ends on 29 April is due on the 30th at noon.
        assert quick["summary"]["windows"] == 9

    def test_the_loop_closed_by_itself(self, quick: dict[str, Any]) -> None:
        summary = quick["summary"]
        assert summary["retrain_runs"] == summary["retrain_runs_started_by_automation"] >= 1
        assert len(summary["event_to_retrain_start_s"]["each"]) == summary["retrain_runs"]
        assert summary["promotions"] + summary["refusals"] <= summary["retrain_runs"]

    def test_every_promotion_was_served(self, quick: dict[str, Any]) -> None:
        summary = quick["summary"]
        assert len(summary["promotion_to_serving_s"]["each"]) == summary["promotions"] + 1

    def test_a_line_per_window_is_printed_where_there_is_no_terminal(self, quick: dict[str, Any]) -> None:
        assert quick["output"].count(" rows  v") == quick["summary"]["windows"]

    def test_the_timeline_is_there(self, quick: dict[str, Any]) -> None:
        assert "Plotly.newPlot" in (quick["home"] / "timeline.html").read_text(encoding="utf-8")

    def test_the_stack_is_down_afterwards(self, quick: dict[str, Any]) -> None:
        assert not [one for one in psutil.process_iter() if _mentions(one, quick["home"])]


def _mentions(process: psutil.Process, home: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get("PERENNIAL_HOME") == str(home)
    except psutil.Error:
        return False


def test_a_day_given_as_the_end_is_lived_through() -> None:
    assert demo_options(datetime(2013, 6, 30), keep=False, quick=False) == DemoOptions(datetime(2013, 7, 1, tzinfo=UTC))  # noqa: DTZ001
    assert demo_options(datetime(2013, 6, 30, 12, tzinfo=UTC), keep=False, quick=False).until == datetime(
        2013, 6, 30, 12, tzinfo=UTC
    )


def test_quick_ends_with_april_and_the_whole_year_has_no_end() -> None:
    assert demo_options(None, keep=False, quick=True).until == QUICK_UNTIL
    assert demo_options(None, keep=True, quick=False) == DemoOptions(None, keep=True)


def test_only_a_whole_year_must_show_that_it_helps() -> None:
    summary = summarise(evidence()).model_copy(update={"auc_loop": 0.5})
    assert unmet_goals(summary)
    assert exit_code(summary, False, Console(file=StringIO())) == 0
    assert exit_code(summary, True, Console(file=StringIO())) == 1


def test_what_is_wrong_is_printed_with_the_exit_code() -> None:
    output = StringIO()
    assert exit_code(summarise(evidence()).model_copy(update={"requests_failed": 3}), True, Console(file=output)) == 1
    assert "requests_failed is 3" in output.getvalue()


def test_the_demo_keeps_to_a_home_and_registry_of_its_own(tmp_path: Path) -> None:
    own = demo_settings(Settings(home=tmp_path, registry="s3://bucket/registry"))
    assert own.home == tmp_path / "demo"
    assert own.registry_url == str(tmp_path / "demo" / "registry")


def a_snapshot() -> Snapshot:
    return Snapshot(
        clock=datetime(2013, 4, 5, 13, tzinfo=UTC),
        requests=1_234,
        rows=30_000,
        rows_per_second=2_500.4,
        values={"drift": 0.0312},
        bounds={"drift": 0.0411},
        windows=5,
        events=1,
        retrainings=1,
        version=2,
        loop=0.7012,
        static=0.6899,
    )


def test_the_panel_shows_everything_at_a_glance() -> None:
    output = StringIO()
    Console(file=output, width=140).print(panel(a_snapshot()))
    shown = output.getvalue()
    for text in (
        "05 April 2013",
        "1,234",
        "30,000 at 2,500/s",
        "0.0312 of at most 0.0411",
        "version 2",
        "0.7012 loop, 0.6899 frozen",
    ):
        assert text in shown


def test_a_terminal_gets_the_panel_and_a_log_gets_lines() -> None:
    assert isinstance(display_on(Console(file=StringIO(), force_terminal=True)), LiveDisplay)
    output = StringIO()
    plain = display_on(Console(file=output, force_terminal=False))
    assert type(plain) is Display
    with plain:
        plain.print_line("a line [not markup]")
        plain.update(a_snapshot())
    assert output.getvalue() == "a line [not markup]\n"
