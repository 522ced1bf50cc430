"""What a column is, is not taken from its worst value: odd values among numbers, codes that look like numbers, several files."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import ChecksFailed, DataError
from perennial.schema import infer_schema
from tasks.data.ingest import Assembled, assemble, ingest
from tasks.data.validate import Checks, validate
from tasks.job import load_job
from tasks.serving.replay import prepare
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows

ODD = ["n/a", "12,570", "$3.50", "3.5%", " 3.5 ", "?", "None", "nan"]


def read(spec: Path) -> Assembled:
    job = load_job(spec, {"PERENNIAL_HOME": str(spec.parent / "var")}, datetime.now(UTC))
    return assemble(job.spec, job.base, job.environ)


def checked(spec: Path) -> tuple[pl.DataFrame, Checks]:
    """Rows and findings of the two steps that begin a training."""
    job = load_job(spec, {"PERENNIAL_HOME": str(spec.parent / "var")}, datetime.now(UTC))
    return validate.fn(job, ingest.fn(job, None))


def with_text(tmp_path: Path, text: str, rows: list[int], column: str = "x", **lines: str) -> Path:
    """A copy of the case in which the column has the text in these rows, and the spec these lines."""
    spec = edit_spec(copy_case("one-text-among-numbers", tmp_path), **lines)
    table = read_rows(spec).with_columns(pl.col("x").replace("n/a", "0.5"))
    place = pl.int_range(pl.len()).is_in(rows)
    write_rows(spec, table.with_columns(pl.when(place).then(pl.lit(text)).otherwise(column).alias(column)))
    return spec


def test_one_text_among_numbers_leaves_the_column_numeric_and_is_listed_with_its_row(tmp_path: Path) -> None:
    rows, checks = checked(copy_case("one-text-among-numbers", tmp_path))
    assert rows.schema["x"] == pl.Float64
    assert rows["x"].null_count() == 1
    assert [(one.column, one.rows, one.examples) for one in checks.odd] == [("x", 1, ("row 301: 'n/a'",))]
    assert checks.odd_values is not None
    listed = pl.read_parquet(checks.odd_values)
    assert listed.select("source", "column", "row", "text").rows() == [("rows", "x", 300, "n/a")]
    assert checks.bad_rows == 0


@pytest.mark.parametrize("kind", ["x = {}", 'x = "numeric"'])
@pytest.mark.parametrize("text", ODD)
def test_every_odd_text_is_null_and_counted_whether_the_kind_is_declared_or_not(tmp_path: Path, text: str, kind: str) -> None:
    table = read(with_text(tmp_path, text, [7], x=kind))
    assert table.frame.schema["x"] == pl.Float64
    assert table.frame["x"].null_count() == 1
    assert table.odd.select("place", "text").rows() == [("row 8", text)]


def test_a_replay_of_a_table_with_one_odd_value_sends_numbers(tmp_path: Path) -> None:
    spec = edit_spec(copy_case("one-text-among-numbers", tmp_path), x='x = "numeric"')
    job = load_job(spec, dict(os.environ), datetime.now(UTC))
    rows = prepare(read(spec).frame, job.spec)
    assert rows.schema["x"] == pl.Float64
    assert rows["x"].null_count() == 1


def test_more_odd_values_than_the_checks_let_through_are_an_error_that_lists_them(tmp_path: Path) -> None:
    with pytest.raises(ChecksFailed) as failed:
        read(with_text(tmp_path, "?", [3, 5, 7, 9, 11], x='x = "numeric"'))
    assert "column 'x' of source 'rows': 5 other texts (row 4: '?'), where a number is expected" in str(failed.value)
    assert "checks.max_odd_values lets 4 of 400 rows through" in str(failed.value)
    assert 'nulls = ["", "NA", "NULL", "?"]' in str(failed.value)


def test_the_proposed_nulls_mend_it(tmp_path: Path) -> None:
    spec = with_text(tmp_path, "?", list(range(0, 400, 2)), **{"sources.rows.nulls": 'sources.rows.nulls = ["", "?"]'})
    table = read(spec)
    assert (table.frame.schema["x"], table.frame["x"].null_count(), table.odd.height) == (pl.Float64, 200, 0)


def test_a_column_half_of_numbers_asks_for_a_kind(tmp_path: Path) -> None:
    spec = with_text(tmp_path, "12,570", list(range(0, 400, 2)))
    with pytest.raises(DataError, match=r'(?s)200 numbers and 200 other texts \(row 1: .12,570.\): say what it is, kind = "num'):
        read(spec)
    assert read(edit_spec(spec, x='x = "categorical"')).frame.schema["x"] == pl.String


def test_a_column_of_prices_asks_for_a_kind_and_proposes_the_thousands_sign(tmp_path: Path) -> None:
    spec = with_text(tmp_path, "12,570", list(range(400)))
    with pytest.raises(DataError, match=r'(?s)0 numbers and 400 other texts.*thousands = ","'):
        read(spec)
    table = read(edit_spec(spec, **{"sources.rows.thousands": 'sources.rows.thousands = ","'}))
    assert table.frame["x"].unique().to_list() == [12_570]


def test_texts_are_categories_without_being_asked_for(tmp_path: Path) -> None:
    table = read(copy_case("one-text-among-numbers", tmp_path))
    assert table.frame["c"].unique().sort().to_list() == ["east", "north", "south", "west"]


def test_a_declared_category_is_text_from_the_first_byte(tmp_path: Path) -> None:
    rows, checks = checked(copy_case("zip-codes", tmp_path))
    assert rows["c"].unique().sort().to_list() == ["00501", "01234", "10001", "1234"]
    assert checks.odd == ()


@pytest.mark.parametrize("codes", [["1E5", "100000"], ["1.0", "1"], ["true", "TRUE"], ["2024-01-01", "20240101"], ["NaN", "nan"]])
def test_categories_that_are_one_number_or_time_stay_two(tmp_path: Path, codes: list[str]) -> None:
    spec = copy_case("zip-codes", tmp_path)
    write_rows(spec, read_rows(spec).with_columns(c=pl.Series([codes[row % 2] for row in range(400)])))
    assert read(spec).frame["c"].unique().sort().to_list() == sorted(codes)


def test_the_contract_of_a_declared_category_takes_the_text_that_training_saw(tmp_path: Path) -> None:
    spec = copy_case("zip-codes", tmp_path)
    job = load_job(spec, {}, datetime.now(UTC))
    schema = infer_schema(job.spec, read(spec).frame)
    assert schema.dtypes == {"x": "float", "c": "string"}


def test_undeclared_codes_with_leading_zeros_ask_for_a_kind(tmp_path: Path) -> None:
    spec = edit_spec(copy_case("zip-codes", tmp_path), c="c = {}")
    with pytest.raises(DataError, match=r"has leading zeros \(row 2: '01234'\), which numbers lose: say what it is"):
        read(spec)


def test_an_id_is_text_from_the_first_byte(tmp_path: Path) -> None:
    spec = copy_case("zip-codes", tmp_path)
    write_rows(spec, read_rows(spec).with_columns(rid=pl.format("00{}", pl.int_range(400))))
    assert read(spec).frame["rid"].head(2).to_list() == ["000", "001"]


def test_the_files_of_a_pattern_have_one_schema_from_all_of_them(tmp_path: Path) -> None:
    spec = edit_spec(copy_case("one-text-among-numbers", tmp_path), **{"sources.rows.path": 'sources.rows.path = "part-*.csv"'})
    table = read_rows(spec).with_columns(x=pl.when(pl.int_range(400) < 100).then(pl.lit("1")).otherwise("x"))
    for number in range(4):
        table.slice(100 * number, 100).write_csv(spec.parent / f"part-{number}.csv")
    found = read(spec)
    assert found.frame.schema["x"] == pl.Float64
    assert found.odd.select("place", "text").rows() == [("row 1 of part-3.csv", "n/a")]


def test_a_parquet_column_of_texts_declared_numeric_is_read_as_numbers(tmp_path: Path) -> None:
    spec = edit_spec(copy_case("one-text-among-numbers", tmp_path), x='x = "numeric"')
    edit_spec(spec, **{"sources.rows.path": 'sources.rows.path = "rows.parquet"'})
    read_rows(spec).write_parquet(spec.parent / "rows.parquet")
    found = read(spec)
    assert (found.frame.schema["x"], found.odd["text"].to_list()) == (pl.Float64, ["n/a"])
