"""A retraining learns from the first dataset and the labelled log, and from nothing else."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perennial.errors import DataError
from perennial.input_contract import set_base
from perennial.model import Model
from perennial.spec import ModelSpec, Task
from perennial.spec_policy import RetrainSpec
from tasks.data import datasets
from tasks.data.datasets import base_dataset
from tasks.data.ingest import ingest
from tasks.data.retraining_data import build_dataset, select_rows, validate_log
from tasks.job import Job
from tests.support.models import TASKS, small_frame, small_model
from tests.tasks.making import later_frame, log_rows, make_job


def make_base(job: Job, until: str | None = None) -> None:
    set_base(job.home, ingest.fn(job, until).manifest.fingerprint, job.spec, {})


def begun(directory: Path, task: Task = "binary") -> tuple[Job, Model]:
    """A job whose first dataset is marked, and the model that serves."""
    job = make_job(directory, task)
    make_base(job)
    return job, small_model(task)


@pytest.mark.parametrize("task", TASKS)
def test_the_first_dataset_and_the_labelled_log_follow_one_another(tmp_path: Path, task: Task) -> None:
    job, champion = begun(tmp_path, task)
    log_rows(job, champion, later_frame(task, 100))
    gathered = build_dataset.fn(job, champion)
    frame = gathered.frame
    assert frame.height == small_frame(task).height + 100
    assert frame["asked_at"].is_sorted()
    assert set(frame.columns) == {"row_id", "asked_at", "outcome", "amount", "shop"}
    whole = pl.concat([small_frame(task), later_frame(task, 100)])
    assert frame["amount"].to_list() == whole["amount"].to_list()
    encode = champion.label_codec.encode_column
    assert encode(frame["outcome"]).tolist() == encode(whole["outcome"]).tolist()
    assert validate_log.fn(job, gathered)[0].height == frame.height
    assert (gathered.path / "manifest.json").exists()


def test_rows_without_a_label_are_not_there(tmp_path: Path) -> None:
    job, champion = begun(tmp_path)
    log_rows(job, champion, later_frame("binary", 100), labelled=False)
    assert build_dataset.fn(job, champion).frame.height == small_frame().height


def test_what_the_source_says_by_now_is_not_looked_at(tmp_path: Path) -> None:
    job, champion = begun(tmp_path)
    pl.concat([small_frame(), later_frame("binary", 500)]).write_parquet(tmp_path / "rows.parquet")
    ingest.fn(job, None)
    assert build_dataset.fn(job, champion).frame.height == small_frame().height


def test_a_row_that_was_trained_on_and_asked_about_counts_once(tmp_path: Path) -> None:
    job, champion = begun(tmp_path)
    log_rows(job, champion, small_frame().tail(30))
    assert build_dataset.fn(job, champion).frame.height == small_frame().height


def test_an_id_that_was_asked_about_again_counts_as_often_as_it_was(tmp_path: Path) -> None:
    job, champion = begun(tmp_path)
    log_rows(job, champion, later_frame("binary", 100))
    log_rows(
        job, champion, later_frame("binary", 100).with_columns(pl.col("asked_at") + timedelta(days=30), pl.col("amount") + 1)
    )
    log_rows(job, champion, small_frame().tail(30).with_columns(pl.col("asked_at") + timedelta(days=90)))
    gathered = build_dataset.fn(job, champion)
    assert gathered.frame.height == validate_log.fn(job, gathered)[0].height == small_frame().height + 230


def test_a_second_retraining_stores_only_the_days_that_have_new_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST", 100)
    job, champion = begun(tmp_path)
    log_rows(job, champion, later_frame("binary", 100))
    first = build_dataset.fn(job, champion).manifest
    before = set(job.home.glob("datasets/parts/*"))
    log_rows(job, champion, later_frame("binary", 150).tail(50))
    second = build_dataset.fn(job, champion).manifest
    new = [part for part in second.parts if part not in first.parts]
    assert second.rows - first.rows == 50
    assert len(set(job.home.glob("datasets/parts/*")) - before) == len(new) <= 3 + 1
    assert sum(part.rows for part in new) <= 50 + 24


def test_bad_rows_of_the_first_dataset_stay_out(tmp_path: Path) -> None:
    endless = pl.when(pl.int_range(pl.len()) == 4).then(float("inf")).otherwise("amount").alias("amount")
    job = make_job(tmp_path, frame=small_frame().with_columns(endless))
    make_base(job)
    assert build_dataset.fn(job, small_model()).frame.height == small_frame().height - 1


def test_checks_of_columns_that_no_service_is_asked_for_are_passed_over(tmp_path: Path) -> None:
    job, champion = begun(tmp_path)
    raw = job.spec.model_dump()
    spec = ModelSpec.model_validate({**raw, "checks": {**raw["checks"], "columns": {"warehouse": {"min": 0}}}})
    rows, _ = validate_log.fn(Job(job.path, spec, job.settings, job.now), build_dataset.fn(job, champion))
    assert rows.height == small_frame().height


def test_the_first_dataset_stays_the_first(tmp_path: Path) -> None:
    job, _ = begun(tmp_path)
    make_base(job, "2024-01-20")
    assert base_dataset(job.home).manifest == ingest.fn(job, None).manifest


def test_without_a_first_dataset_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the `train` flow once before retraining"):
        build_dataset.fn(make_job(tmp_path), small_model())


def test_trailing_keeps_the_newest_windows(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    kept = select_rows.fn(with_retrain(job, data="trailing", windows=2), small_frame())
    assert kept.rows.height == 14 * 24
    assert kept.rows["asked_at"].max() == small_frame()["asked_at"].max()
    assert (select_rows.fn(job, small_frame()).rows.height, kept.weights) == (small_frame().height, None)


def test_a_weight_halves_with_each_half_life(tmp_path: Path) -> None:
    weights = select_rows.fn(with_retrain(make_job(tmp_path), data="weighted", half_life="100h"), small_frame()).weights
    assert weights is not None
    assert weights[-1] / weights[-101] == pytest.approx(2)
    assert np.mean(weights) == pytest.approx(1)


def with_retrain(job: Job, **keys: object) -> Job:
    return replace(job, spec=job.spec.model_copy(update={"retrain": RetrainSpec.model_validate(keys)}))
