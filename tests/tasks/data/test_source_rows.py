"""Sources read for one moment: nothing that happened or became known after it, whatever the table holds by now."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from monitoring.policy import RetrainRequest
from perennial.errors import DataError
from tasks.data.source_rows import read_sources
from tasks.job import Job
from tasks.promotion.labelled_rows import moment_of
from tests.support.models import START, small_frame, small_model
from tests.tasks.making import NOW, later_frame, log_rows, make_job, respecified
from tests.tasks.promotion.test_retrain_request import event

MOMENT = START + timedelta(hours=700)


def poisoned() -> pl.DataFrame:
    """The small table, in which all that a moment could not know is wrong: later rows, and labels of less than a day before."""
    later, unknown = pl.col("asked_at") >= MOMENT, pl.col("asked_at") > MOMENT - timedelta(days=1)
    amount = pl.when(later).then(999.0).otherwise("amount").alias("amount")
    return small_frame().with_columns(amount, outcome=pl.when(unknown).then(1 - pl.col("outcome")).otherwise("outcome"))


def known(job: Job, moment: datetime = MOMENT) -> pl.DataFrame:
    return read_sources.fn(job, moment).frame


def with_retrain(job: Job, **keys: object) -> Job:
    return respecified(job, retrain={"rows": "sources", **keys})


def test_a_table_that_holds_the_future_gives_what_one_without_it_gave(tmp_path: Path) -> None:
    job = with_retrain(make_job(tmp_path, frame=poisoned()))
    frame, past = known(job), small_frame().filter(pl.col("asked_at") < MOMENT)
    assert frame.drop("outcome").equals(past.drop("outcome"))
    assert frame["outcome"].head(677).to_list() == past["outcome"].head(677).to_list()
    assert frame["outcome"].tail(23).to_list() == [None] * 23, "less than the window's lateness old"
    assert read_sources.fn(job, MOMENT).manifest.origin == (
        "sources up to 2024-01-30T04:00:00+00:00",
        "300 later rows and 23 later labels left out",
    )


def test_the_spec_says_how_long_a_label_takes(tmp_path: Path) -> None:
    job = with_retrain(make_job(tmp_path, frame=poisoned()), label_delay="7d")
    assert known(job)["outcome"].null_count() == 7 * 24 - 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_row_that_says_when_its_label_was_known_is_believed(tmp_path: Path, ending: str) -> None:
    when = pl.col("asked_at") + pl.duration(hours=pl.int_range(pl.len()) % 48)
    frame = small_frame().with_columns(when.alias("settled_at"))
    job = with_retrain(make_job(tmp_path, frame=frame), known_at="settled_at")
    if ending == "csv":
        frame.write_csv(tmp_path / "rows.csv")
        job = respecified(job, sources={"rows": {"path": "rows.csv"}})
    found = known(job)
    assert found.filter(pl.col("outcome").is_null()).height > 20
    assert found.filter(pl.col("outcome").is_not_null())["settled_at"].max() <= MOMENT  # type: ignore[operator]
    assert found.filter(pl.col("outcome").is_null())["settled_at"].min() > MOMENT  # type: ignore[operator]


def test_a_column_that_cannot_say_when_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'settled_at', which is not in the table; it has row_id"):
        known(with_retrain(make_job(tmp_path), known_at="settled_at"))
    with pytest.raises(DataError, match=r"column 'row_id' holds 'row-0', which is no time"):
        known(with_retrain(make_job(tmp_path), known_at="row_id"))


def test_the_moment_is_that_of_the_request_or_of_the_log_or_now(tmp_path: Path) -> None:
    job, champion = make_job(tmp_path), small_model()
    request = RetrainRequest.model_validate(event())
    assert moment_of(job, champion, request) == request.window_end + timedelta(days=1)
    assert moment_of(job, champion, None) == NOW
    rows = later_frame("binary", 100)
    log_rows(job, champion, rows)
    assert moment_of(job, champion, None) == rows["asked_at"][-3], "what three rows have reached"
