"""A backtest on a real cluster of two worker processes: the same losses, policies and verdict as by threads."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.backtest import backtest
from tasks.backtest.report import BacktestReport, read_report
from tests.flows.asking import runs, task_runs
from tests.support.models import small_frame, write_small

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("prefect_dask") is None, reason="prefect-dask is not installed: `make check-dask` has it"
)


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def backtested(home: Path) -> BacktestReport:
    home.mkdir()
    return read_report(Path(backtest(str(write_small(home, frame=small_frame("binary", 1_400))))))


def test_a_cluster_gives_the_same_report_as_threads(
    tmp_path: Path, prefect_api: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "threads-var"))
    by_threads = backtested(tmp_path / "threads")
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "cluster-var"))
    monkeypatch.setenv("PERENNIAL_DASK_SCHEDULER", scheduler)
    by_cluster = backtested(tmp_path / "cluster")
    assert by_cluster == by_threads
    for run in runs(prefect_api, "backtest"):
        assert len(task_runs(prefect_api, run["id"], "train and score")) == 7
