"""The demo: one month, as people run it; and the small decisions around it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from deployments.demo.demo import QUICK_UNTIL, demo_settings, replay_end
from deployments.demo.loop import SPEC, find_loop, find_spec
from deployments.demo.report import exit_code
from deployments.demo.summary import unmet_goals
from deployments.replay.display import ReplayProgress, panel, print_line
from monitoring.state import load_results
from perennial.errors import StackError
from perennial.model_loading import load_card
from perennial.registry import Registry
from perennial.settings import Settings, load_settings
from perennial.spec import load_spec
from tasks.serving.replay import Sent
from tests.deployments.demo.test_summary import comparison, evidence
from tests.deployments.replay.test_driver import a_result

MONTH_TIMEOUT = 900
"""Seconds: several times what a quiet machine takes, because the suite shares the cores."""


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a demo of one month left: exit code, output, summary.json, home."""
    home = tmp_path_factory.mktemp("month")
    # The stack's own Prefect server: event ids are the same in every demo, and a server answers each only once.
    environ = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "PREFECT_HOME")}
    command = [str(Path(sys.executable).with_name("perennial")), "demo", "--until", "2013-03-31"]
    done = subprocess.run(
        command,
        env=environ | {"PERENNIAL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MONTH_TIMEOUT,
        check=False,
    )
    summary = home / "demo" / "summary.json"
    found = json.loads(summary.read_bytes()) if summary.exists() else {}
    return {"code": done.returncode, "output": done.stdout, "summary": found, "home": home / "demo"}


@pytest.mark.timeout(MONTH_TIMEOUT + 60)
class TestMonth:
    """A month of real flights through every real part."""

    def test_it_ends_well_and_says_so(self, month: dict[str, Any]) -> None:
        assert month["code"] == 0, month["output"][-5_000:]
        assert "yes" in month["output"]

    def test_its_first_line_is_progress_and_no_warning(self, month: dict[str, Any]) -> None:
        assert month["output"].startswith("store: starting\n"), month["output"][:500]

    def test_nothing_is_lost(self, month: dict[str, Any]) -> None:
        summary = month["summary"]
        assert summary["requests_failed"] == 0
        assert summary["predictions_archived"] == summary["predictions_answered"] == summary["predictions_counted_by_service"]
        assert summary["labels_joined"] == summary["labels_sent"] == summary["labels_counted_by_service"]

    def test_every_window_that_fell_due_was_closed(self, month: dict[str, Any]) -> None:
        # From Monday 25 February; the one that ends on 25 March is due on the 26th at noon.
        assert month["summary"]["windows"] == 4

    def test_the_loop_closed_by_itself(self, month: dict[str, Any]) -> None:
        summary = month["summary"]
        assert summary["retrain_runs"] == summary["retrain_runs_started_by_automation"] >= 1
        assert len(summary["event_to_retrain_start_s"]["each"]) == summary["retrain_runs"]
        assert summary["promotions"] + summary["refusals"] <= summary["promote_runs"]

    def test_every_promotion_was_served(self, month: dict[str, Any]) -> None:
        summary = month["summary"]
        assert len(summary["promotion_to_serving_s"]["each"]) == summary["promotions"] + 1

    def test_no_version_has_learnt_a_row_from_after_the_window_that_asked_for_it_was_judged(self, month: dict[str, Any]) -> None:
        registry, lateness = Registry(str(month["home"] / "registry")), load_spec(SPEC).window.lateness
        windows = {one.decision.event_id: one.window for one in load_results(month["home"] / "flights") if one.decision.event_id}
        cards = [load_card(registry, "flights", version) for version in registry.versions("flights")]
        asked = {card.version: windows[card.cause.event_id] for card in cards if card.cause.event_id}
        assert asked
        assert all(card.until < asked[card.version].end + lateness for card in cards if card.version in asked)

    def test_a_line_per_window_is_printed_where_there_is_no_terminal(self, month: dict[str, Any]) -> None:
        assert month["output"].count(" rows  v") == month["summary"]["windows"]

    def test_the_timeline_is_there(self, month: dict[str, Any]) -> None:
        assert "with the first model frozen" in (month["home"] / "timeline.html").read_text(encoding="utf-8")

    def test_the_stack_is_down_afterwards(self, month: dict[str, Any]) -> None:
        assert not [one for one in psutil.process_iter() if _mentions(one, month["home"])]


def _mentions(process: psutil.Process, home: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get("PERENNIAL_HOME") == str(home)
    except psutil.Error:
        return False


def test_a_day_given_as_the_end_is_lived_through() -> None:
    noon = datetime(2013, 6, 30, 12, tzinfo=UTC)
    assert replay_end(datetime(2013, 6, 30), quick=False) == datetime(2013, 7, 1, tzinfo=UTC)  # noqa: DTZ001
    assert replay_end(noon, quick=False) == noon


def test_quick_ends_with_april_and_the_whole_year_has_no_end() -> None:
    assert replay_end(None, quick=True) == QUICK_UNTIL
    assert replay_end(None, quick=False) is None


def test_only_a_whole_year_must_show_that_it_helps() -> None:
    no_help = replace(evidence(), comparisons={})
    assert unmet_goals(no_help)
    assert exit_code(no_help, False, Console(file=StringIO())) == 0
    assert exit_code(no_help, True, Console(file=StringIO())) == 1


def test_what_is_wrong_is_printed_with_the_exit_code() -> None:
    output = StringIO()
    assert exit_code(replace(evidence(), sent=Sent(failed=3)), True, Console(file=output)) == 1
    assert "requests_failed is 3" in output.getvalue()


def test_the_demo_keeps_to_a_home_and_registry_of_its_own(tmp_path: Path) -> None:
    own = demo_settings(Settings(home=tmp_path, registry="s3://bucket/registry"))
    assert own.home == tmp_path / "demo"
    assert own.registry_url == str(tmp_path / "demo" / "registry")


@pytest.mark.parametrize("left_out", ["REDIS_URL", "PREFECT_API_URL"])
def test_a_demo_on_services_must_be_told_where_they_are(left_out: str) -> None:
    environ = {"REDIS_URL": "redis://127.0.0.1:1/0", "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    with pytest.raises(StackError, match="REDIS_URL and PREFECT_API_URL"):
        find_loop("http://127.0.0.1:1", load_settings({name: environ[name] for name in environ if name != left_out}), {})


def test_the_spec_is_the_one_that_the_monitor_follows_by_the_path_that_it_has(tmp_path: Path) -> None:
    specs = shutil.copytree(SPEC.parent, tmp_path / "specs")
    assert find_spec([str(specs)], "http://prefect/api") == specs / "flights.toml"
    with pytest.raises(StackError, match="follows flights: run `perennial deploy"):
        find_spec([str(SPEC.with_name("bike_sharing.toml"))], "http://prefect/api")


def a_progress() -> ReplayProgress:
    return ReplayProgress(
        clock=datetime(2013, 4, 5, 13, tzinfo=UTC),
        task="binary",
        sent=Sent(requests=1_234, predictions=30_000),
        sending_s=12.0,
        windows=[(a_result(), comparison(0.7012, 0.6899)), (a_result("drift"), comparison(0.7012, 0.6899))],
        runs=1,
        version=2,
    )


def test_the_panel_shows_everything_at_a_glance() -> None:
    output = StringIO()
    Console(file=output, width=140).print(panel(a_progress(), "the monitor to catch up"))
    for text in (
        "05 April 2013",
        "1,234",
        "30,000 at 2,500/s",
        "drift 0.1250 (bound 0.2500)",
        "version 2",
        "0.7012 loop, 0.6899 frozen",
        "waiting for the monitor to catch up",
    ):
        assert text in output.getvalue()


def test_before_the_first_window_the_panel_has_dashes() -> None:
    output = StringIO()
    Console(file=output, width=140).print(panel(ReplayProgress(datetime(2013, 3, 1, tzinfo=UTC), "binary"), ""))
    assert "- loop, - frozen" in output.getvalue()
    assert "replaying" in output.getvalue()


def test_a_line_is_printed_as_it_is() -> None:
    output = StringIO()
    print_line(Console(file=output, width=10), "a line [not markup] that is long")
    assert output.getvalue() == "a line [not markup] that is long\n"
