"""Batch predict: a table scored with the champion."""

from prefect import flow

from tasks.hooks import report_failure, run_name
from tasks.job import open_job
from tasks.promotion.publish import require_champion
from tasks.serving.batch_predict import ScoredTable, score_table


@flow(name="batch-predict", flow_run_name=run_name, on_failure=[report_failure])
def batch_predict(spec: str, source: str | None = None, output: str | None = None) -> ScoredTable:
    """Score the rows of `source` (CSV or Parquet, path or URL; default: the spec's own) into a Parquet or CSV file."""
    job = open_job(spec)
    return score_table(job, require_champion(job), source, output)
