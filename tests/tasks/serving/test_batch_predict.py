"""A whole table scored into one Parquet file."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import DataError, SourceError
from perennial.spec import Task
from perennial.spec_sources import SourceSpec
from tasks.serving.batch_predict import score_table
from tests.support.models import TASKS, small_frame, small_model
from tests.tasks.making import make_job


@pytest.mark.parametrize("task", TASKS)
def test_every_row_is_scored_as_the_service_would(tmp_path: Path, task: Task) -> None:
    job, champion, frame = make_job(tmp_path, task), small_model(task, version=4), small_frame(task, 50, seed=2)
    frame.drop("outcome").with_columns(pl.col("asked_at").dt.to_string("iso")).write_csv(tmp_path / "new.csv")
    output = score_table.fn(job, champion, str(tmp_path / "new.csv"), str(tmp_path / "scores" / "new.parquet")).file
    scored = pl.read_parquet(output)
    assert scored["row_id"].to_list() == frame["row_id"].to_list()
    assert scored["asked_at"].to_list() == frame["asked_at"].to_list()
    assert scored["score"].to_list() == champion.predict_frame(frame).tolist()
    assert scored["label"].to_list() == [champion.label_of(score) for score in scored["score"].to_list()]
    assert scored["version"].unique().to_list() == [4]


def test_a_csv_is_read_in_the_dialect_of_the_spec_and_by_the_kinds_of_the_model(tmp_path: Path) -> None:
    job, champion, frame = make_job(tmp_path), small_model(), small_frame(rows=200, seed=2)
    first = SourceSpec(path="rows.csv", separator=";", decimal=",", nulls=("?",))
    job = replace(job, spec=job.spec.model_copy(update={"sources": {"rows": first}}))
    commas = pl.col("amount").cast(pl.String).str.replace(".", ",", literal=True)
    odd = pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("n/a")).otherwise(commas)
    frame.with_columns(odd.alias("amount"), shop=pl.lit("007")).write_csv(tmp_path / "new.csv", separator=";")
    scored = pl.read_parquet(score_table.fn(job, champion, str(tmp_path / "new.csv"), str(tmp_path / "out.parquet")).file)
    known = frame.with_columns(amount=pl.when(pl.int_range(pl.len()) != 7).then("amount"), shop=pl.lit("007"))
    assert scored["score"].to_list() == champion.predict_frame(known).tolist()


def test_values_that_the_model_takes_for_null_are_counted_and_told(tmp_path: Path) -> None:
    def at(row: int, column: str, value: str) -> pl.Expr:
        return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String)).alias(column)

    job, champion = make_job(tmp_path), small_model()
    texts = small_frame(rows=300, seed=2).with_columns(pl.col("asked_at").dt.to_string("iso"))
    odd = (at(4, "amount", "oops"), at(8, "asked_at", "once"), at(11, "shop", "mars"))
    texts.with_columns(odd).write_csv(tmp_path / "new.csv")
    found = score_table.fn(job, champion, str(tmp_path / "new.csv"), str(tmp_path / "out.parquet"))
    assert (found.rows, found.version) == (300, champion.card.version)
    assert {(one.column, one.rows) for one in found.problems} == {("amount", 1), ("asked_at", 1), ("shop", 1)}
    assert "'oops'" in str(found.problems)


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_written_as_csv_where_the_file_is_called_so(tmp_path: Path, task: Task) -> None:
    job, champion, frame = make_job(tmp_path, task), small_model(task), small_frame(task, 50, seed=2)
    frame.write_parquet(tmp_path / "new.parquet")
    read = [score_table.fn(job, champion, str(tmp_path / "new.parquet"), str(tmp_path / name)).file for name in ("s.csv", "s.pq")]
    table, parquet = pl.read_csv(read[0]), pl.read_parquet(read[1])
    names = [f"score_{one}" for one in champion.card.classes] or ["score"]
    assert table.select(names).rows() == [tuple(one) if champion.card.classes else (one,) for one in parquet["score"]]
    with pytest.raises(DataError, match=r"\.parquet or \.csv, by the ending of the file: s\.xlsx"):
        score_table.fn(job, champion, str(tmp_path / "new.parquet"), str(tmp_path / "s.xlsx"))


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    small_frame().drop("amount").write_parquet(tmp_path / "new.parquet")
    with pytest.raises(DataError, match="the table has no column 'amount'"):
        score_table.fn(job, small_model(), str(tmp_path / "new.parquet"), str(tmp_path / "out.parquet"))
    with pytest.raises(SourceError, match="no file at"):
        score_table.fn(job, small_model(), str(tmp_path / "nothing.parquet"), str(tmp_path / "out.parquet"))
    assert not (tmp_path / "out.parquet").exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(DataError, match=r"cannot write the scores to .*file/out\.parquet"):
        score_table.fn(make_job(tmp_path), small_model(), str(tmp_path / "rows.parquet"), str(tmp_path / "file" / "out.parquet"))


def test_without_a_table_the_sources_of_the_spec_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job, champion = make_job(tmp_path), small_model()
    output = score_table.fn(job, champion, None, None).file
    assert output == tmp_path / "small-scores.parquet"
    assert pl.read_parquet(output)["score"].to_list() == champion.predict_frame(small_frame()).tolist()


def test_a_table_without_times_gets_those_of_its_rows(tmp_path: Path) -> None:
    job, champion, frame = make_job(tmp_path), small_model(), small_frame(rows=5)
    rows = SourceSpec(path="rows.parquet", time_from_rows="24/day", time_start=date(2024, 1, 1))
    job = replace(job, spec=job.spec.model_copy(update={"sources": {"rows": rows}}))
    frame.drop("outcome", "asked_at").write_parquet(tmp_path / "new.parquet")
    scored = pl.read_parquet(score_table.fn(job, champion, str(tmp_path / "new.parquet"), str(tmp_path / "out.parquet")).file)
    assert scored["asked_at"].to_list() == frame["asked_at"].to_list()
