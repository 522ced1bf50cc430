"""The story of a backtest: the sources' history lived through by the flow's own tasks, and what is kept of it."""

from pathlib import Path

import pytest

from flows.backtest import backtest
from perennial.errors import ChecksFailed, DataError
from tasks.backtest.report import read_report
from tests.flows.asking import artifacts, runs, task_runs
from tests.support.models import small_frame, write_small


def test_a_history_is_lived_through_and_the_report_kept(home: Path, prefect_api: str) -> None:
    spec = write_small(home, frame=small_frame("binary", 1_400))
    path = Path(backtest(str(spec), data=("trailing",)))
    report = read_report(path)
    assert path == home / "var" / "small" / "backtest" / "report.json"
    assert path.with_suffix(".html").exists()
    assert [mode.data for mode in report.modes] == ["all", "trailing"]
    run = runs(prefect_api, "backtest")[0]
    assert run["name"] == "small"
    assert len(task_runs(prefect_api, run["id"], "train and score")) == 2 * 7
    assert report.sentences[-1] == artifacts(prefect_api, run["id"])["small-backtest"]["description"]


def test_a_history_without_labels_or_windows_is_named(home: Path) -> None:
    frame = small_frame("binary", 1_400)
    unlabelled = write_small(home, frame=frame.with_columns(outcome=None))
    with pytest.raises(ChecksFailed, match="outcome: is known for only 0 of 1,400 good rows"):
        backtest(str(unlabelled))
    with pytest.raises(DataError, match="a backtest needs 3: bring more history"):
        backtest(str(write_small(home, frame=frame.head(24 * 25))))
