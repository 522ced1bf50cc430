"""Backtest: what each policy of retraining would have cost on the spec's own history, and which one to write into the spec."""

from collections.abc import Sequence

from prefect import flow

from tasks.backtest.history import modes_of, parse_label_delay, plan_history
from tasks.backtest.page import keep_report
from tasks.backtest.report import build_report
from tasks.backtest.train_matrix import search_once, train_matrix
from tasks.data.ingest import ingest, parse_until
from tasks.data.validate import validate
from tasks.hooks import report_failure, run_name
from tasks.job import open_job
from tasks.reporting.artifacts import show_checks
from tasks.task_defaults import core_or_cluster


@flow(name="backtest", flow_run_name=run_name, on_failure=[report_failure], task_runner=core_or_cluster())
def backtest(spec: str, start: str | None = None, label_delay: str | None = None, data: Sequence[str] = ()) -> str:
    """Live through the sources' history from `start` on (ISO time; a sixth of it is the past by default).

    Labels come `label_delay` after their event (default: when windows close). `data` names further data modes to compare.
    Returns the path of the report.
    """
    job = open_job(spec)
    dataset = ingest(job, None)
    rows, checks = validate(job, dataset)
    show_checks(job, checks)
    history = plan_history(job, rows, dataset.manifest, parse_until(start), parse_label_delay(job.spec, label_delay))
    history = search_once(history)
    matrices = {mode: train_matrix(history.with_data(mode)) for mode in modes_of(job.spec, data)}
    return keep_report(job, build_report(job, matrices))
