"""The report: sentences that end in something to do, a page that needs no other file."""

import re
import tomllib
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deployments.summary import backtest_rows
from perennial.spec import ModelSpec
from tasks.backtest.page import draw_page, pareto_frontier, track_report
from tasks.backtest.report import BacktestReport, build_report, policy_table, report_markdown, section_text
from tests.support.waiting import wait_until
from tests.tasks.backtest.matrices import ageing, matrix_of
from tests.tasks.making import make_job


def report_of(directory: Path, **modes: float) -> BacktestReport:
    job = make_job(directory, "regression")
    matrices = {mode: matrix_of(30, ageing(speed), first=9, lateness=timedelta(days=1)) for mode, speed in modes.items()}
    return build_report(job, matrices)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BacktestReport:
    return report_of(tmp_path_factory.mktemp("report"), all=0.05)


def test_the_verdict_is_said_in_sentences(report: BacktestReport) -> None:
    assert report.sentences[0].startswith("gradual decay")
    assert re.fullmatch(r"recommended: .*; on the 8 later windows \d promotions, \d+% of what .*", report.sentences[-1])
    assert report.starts[0] < report.starts[-1]
    assert set(report.losses) == {"never", "every window", "perennial"}


def test_wandb_gets_policies_decay_and_verdict_offline(
    report: BacktestReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    assert track_report(make_job(tmp_path, "regression"), report)
    (run,) = tmp_path.rglob("run-small-backtest-20260101T000000.wandb")
    wait_until(lambda: b"recommended: " in run.read_bytes(), 30, "W&B to write the run to its file")


def test_a_window_of_age_that_costs_more_than_a_version_is_named(tmp_path: Path) -> None:
    sentences = " ".join(report_of(tmp_path, all=0.6).sentences)
    assert re.search(r"recommended: every window; .* gains \(the default: \d+%\)", sentences)
    assert "one window of age costs 0.60 of a window's loss, a new version 0.2: retrain every window" in sentences
    assert "a calendar does as well: a promotion every window" in sentences


def test_a_better_data_mode_is_recommended(tmp_path: Path) -> None:
    report = report_of(tmp_path, all=0.3, trailing=0.01)
    assert report.sections["retrain"] == {"data": '"trailing"'}
    assert [mode.data for mode in report.modes] == ["all", "trailing"]
    assert report.modes[1].later_loss < report.modes[0].later_loss


def test_the_sections_are_toml_that_a_spec_takes(report: BacktestReport, tmp_path: Path) -> None:
    raw = tomllib.loads(section_text(report.sections))
    spec = make_job(tmp_path, "regression").spec
    assert ModelSpec.model_validate({**spec.model_dump(), "policy": raw["policy"]}).policy.cost == 0.2


def test_the_page_needs_no_other_file(report: BacktestReport) -> None:
    page = draw_page(report)
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert "every 13 windows" in page
    assert report.sentences[0].split(":")[0] in page


def test_the_frontier_holds_what_none_beats(report: BacktestReport) -> None:
    frontier = pareto_frontier(report.policies)
    gains = [one.gain_share for one in frontier]
    assert [one.promotions for one in frontier] == sorted({one.promotions for one in frontier})
    assert gains == sorted(gains, key=lambda gain: gain or 0)
    assert (frontier[0].promotions, frontier[-1].gain_share) == (0, 1)


def test_terminal_and_artifact_show_every_policy(report: BacktestReport) -> None:
    console = Console(width=80, file=StringIO())
    console.print(policy_table(report))
    shown, page = console.file.getvalue(), report_markdown(report)
    assert all(one.name in shown and one.name in page for one in report.policies)


def test_the_last_row_says_what_came_of_it_and_what_to_do(report: BacktestReport, tmp_path: Path) -> None:
    spec = tmp_path / "small.toml"
    rows = backtest_rows(report, tmp_path / "report.json", spec, written=False)
    assert list(rows)[-1] == "next"
    assert rows["next"] == f"not yet in {spec}: perennial backtest {spec} --write"
    assert backtest_rows(report, tmp_path / "report.json", spec, written=True)["next"].startswith(f"written into {spec}")
