"""Training the matrix: the product's own models, without a look ahead, in files that a second run reads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perennial.errors import DataError, TrainingError
from perennial.learners.declarations import LEARNERS
from perennial.metrics import score
from perennial.spec import Task
from tasks.backtest.history import History, modes_of, parse_label_delay, plan_history, whole_windows
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.train_matrix import in_threads, search_once, train_matrix
from tasks.data.datasets import store_dataset
from tasks.data.validate import check_dataset
from tasks.training.fit import make_trainer
from tasks.training.learner_choice import with_learner
from tasks.training.training_data import build_training_data
from tests.support.models import START, TASKS, small_frame, small_spec
from tests.tasks.making import NOW, make_job

WEEK = timedelta(days=7)
ROWS = 1_400
"""Eight whole weeks of hours and a bit."""


def history_of(
    directory: Path, task: Task = "binary", frame: pl.DataFrame | None = None, label_delay: timedelta = timedelta(days=1)
) -> History:
    job = make_job(directory, task, small_frame(task, ROWS) if frame is None else frame)
    dataset = store_dataset(pl.read_parquet(directory / "rows.parquet"), "asked_at", job.home, ("test",), NOW)
    rows, _ = check_dataset(job, dataset)
    return plan_history(job, rows, dataset.manifest, None, label_delay)


def trained(history: History) -> LossMatrix:
    return train_matrix(search_once(history), in_threads)


@pytest.mark.parametrize("task", TASKS)
def test_each_boundary_has_a_model_that_is_scored_on_every_later_window(task: Task, tmp_path: Path) -> None:
    history = history_of(tmp_path, task)
    matrix = trained(history)
    assert (history.first, len(matrix.windows), matrix.counts) == (2, 8, (168,) * 8)
    assert matrix.judged.tolist() == [2, 3, 4, 5, 6, 7]
    assert [len(matrix.rows[boundary].cells) for boundary in (1, 2, 7)] == [1, 6, 1]
    assert np.isfinite(matrix.losses[2:, 2:][np.triu_indices(6)]).all()
    assert all(len(cell.sums) == 7 for cell in matrix.rows[2].cells if cell)


def test_a_cell_is_what_the_products_training_before_the_boundary_loses_on_the_window(tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path))
    matrix = train_matrix(history, in_threads)
    rows = history.rows
    data = build_training_data.fn(history.job, rows.filter(pl.col("asked_at") < START + 4 * WEEK), history.manifest)
    estimator = make_trainer(history.job, data).fit(history.params, matrix.rows[4].rounds)
    window = rows.filter((pl.col("asked_at") >= START + 6 * WEEK) & (pl.col("asked_at") < START + 7 * WEEK))
    scores = estimator.predict(data.compiled.matrix(window))
    expected = score("binary", window["outcome"].cast(pl.Float64).to_numpy(), scores).values
    cell = matrix.cell(4, 6)
    assert cell is not None
    assert matrix.losses[4, 6] == pytest.approx(expected["log_loss"])
    assert cell.signals["auc"] == pytest.approx(expected["auc"])


def test_a_spec_that_leaves_the_learner_open_is_lived_with_the_one_that_the_search_chose(tmp_path: Path) -> None:
    history = history_of(tmp_path)
    history = replace(history, job=with_learner(history.job, "auto"))
    found, again = search_once(history), search_once(history)
    assert found.job.spec.learner in LEARNERS
    assert (again.job.spec, again.params) == (found.job.spec, found.params)
    assert found.directory != history.directory


def test_labels_that_are_late_are_not_learnt_from(tmp_path: Path) -> None:
    history = history_of(tmp_path, label_delay=timedelta(days=3))
    assert history.ahead == timedelta(days=-2)
    assert history.known(4)["asked_at"].max() < START + 4 * WEEK - timedelta(days=2)
    assert history_of(tmp_path, label_delay=timedelta(hours=1)).known(4)["asked_at"].max() < START + 4 * WEEK


def test_what_was_trained_is_read_and_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    history = history_of(tmp_path)
    first = trained(history)
    directory = search_once(history).directory
    written = {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}
    (directory / "row-5.json").unlink()
    assert trained(history) == first
    again = {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}
    assert {name for name in again if again[name] != written[name]} == {"row-5.json"}


def test_another_data_mode_is_another_matrix(tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path))
    every, trailing = (train_matrix(history.with_data(mode), in_threads) for mode in ("all", "trailing"))
    assert every.rows[3] == trailing.rows[3]  # fewer than eight windows: the trailing ones are all
    assert history.with_data("all").directory != history.with_data("trailing").directory


def test_the_policy_does_not_change_what_is_trained(tmp_path: Path) -> None:
    history = search_once(history_of(tmp_path))
    policy = history.job.spec.policy.model_copy(update={"cost": 1.0})
    job = replace(history.job, spec=history.job.spec.model_copy(update={"policy": policy}))
    assert replace(history, job=job).directory == history.directory


def test_a_window_of_a_single_class_is_scored_without_auc(tmp_path: Path) -> None:
    frame = small_frame("binary", ROWS)
    one_class = (pl.col("asked_at") >= (START + 6 * WEEK)) & (pl.col("asked_at") < (START + 7 * WEEK))
    matrix = trained(
        history_of(tmp_path, frame=frame.with_columns(pl.when(~one_class).then("outcome").otherwise(1).alias("outcome")))
    )
    cell = matrix.cell(2, 6)
    assert cell is not None
    assert "auc" not in cell.signals
    assert np.isfinite(matrix.losses[2, 6])


def test_a_history_of_a_single_class_until_the_start_is_named(tmp_path: Path) -> None:
    frame = small_frame("binary", ROWS)
    early = pl.col("asked_at") < (START + 3 * WEEK)
    with pytest.raises(TrainingError, match=r"target 'outcome' is the same in all 336 rows that a training at 2024-01-15"):
        trained(history_of(tmp_path, frame=frame.with_columns(pl.when(early).then(1).otherwise("outcome").alias("outcome"))))


def test_windows_with_too_few_rows_are_not_judged(tmp_path: Path) -> None:
    frame = small_frame("binary", ROWS)
    gap = (pl.col("asked_at") > (START + 5 * WEEK)) & (pl.col("asked_at") < (START + 6 * WEEK))
    matrix = trained(history_of(tmp_path, frame=frame.filter(~gap)))
    assert matrix.judged.tolist() == [2, 3, 4, 6, 7]


def test_fewer_than_three_windows_are_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leave 2 whole windows of window.length = 7d .* a backtest needs 3: bring more history"):
        history_of(tmp_path, frame=small_frame("binary", 24 * 25))


def test_windows_are_the_monitors_and_whole() -> None:
    found = whole_windows(START + timedelta(days=3), START + 3 * WEEK - timedelta(hours=1), WEEK)
    assert [window.start for window in found] == [START, START + WEEK, START + 2 * WEEK]
    assert len(whole_windows(START, START + timedelta(days=17), WEEK)) == 2


def test_what_a_person_says_of_delay_and_data_is_checked() -> None:
    spec = small_spec()
    assert parse_label_delay(spec, None) == spec.window.lateness
    assert parse_label_delay(spec, "36h") == timedelta(hours=36)
    assert modes_of(spec, ("trailing", "all")) == ("all", "trailing")
    auto = spec.model_copy(update={"retrain": spec.retrain.model_copy(update={"data": "auto"})})
    assert modes_of(auto, ()) == ("all", "trailing", "weighted")
    with pytest.raises(DataError, match="the label delay 'soon' is not a duration"):
        parse_label_delay(spec, "soon")
    with pytest.raises(DataError, match="'newest' is no data mode; choose from all, trailing, weighted"):
        modes_of(spec, ("newest",))


def test_a_start_may_be_given(tmp_path: Path) -> None:
    history = history_of(tmp_path)
    later = plan_history(history.job, history.rows, history.manifest, datetime(2024, 1, 20, tzinfo=UTC), timedelta(days=1))
    assert later.windows[later.first].start == datetime(2024, 1, 22, tzinfo=UTC)
