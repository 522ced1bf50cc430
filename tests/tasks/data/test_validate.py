"""Bad rows are set aside and counted; too many, or a broken column, stop the training with everything said at once."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import ChecksFailed
from perennial.spec import ModelSpec
from perennial.spec import Task as Kind
from tasks.data.validate import Checks, check_table
from tests.support.models import small_frame, small_spec
from tests.tasks.making import NOW

LONG_AGO = datetime(1601, 1, 1, tzinfo=UTC)


def checked(tmp_path: Path, frame: pl.DataFrame, spec: ModelSpec | None = None) -> tuple[pl.DataFrame, Checks]:
    return check_table(frame, spec or small_spec(), tmp_path / "quarantine" / "bad.parquet", NOW)


def with_checks(task: Kind = "binary", **checks: object) -> ModelSpec:
    raw = small_spec(task).model_dump()
    return ModelSpec.model_validate({**raw, "checks": {**raw["checks"], **checks}})


def at(row: int, column: str, value: object) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def test_good_rows_pass_and_nothing_is_written(tmp_path: Path) -> None:
    rows, checks = checked(tmp_path, small_frame())
    assert rows.height == small_frame().height
    assert (checks.bad_rows, checks.unlabelled, checks.problems, checks.quarantine) == (0, 0, (), None)
    assert not (tmp_path / "quarantine").exists()


def test_rows_without_a_label_are_left_out_and_are_not_bad(tmp_path: Path) -> None:
    rows, checks = checked(tmp_path, small_frame().with_columns(at(3, "outcome", None)))
    assert (rows.height, checks.unlabelled, checks.bad_rows) == (small_frame().height - 1, 1, 0)


@pytest.mark.parametrize(("id_", "told"), [(None, 30), ("row_id", 0)])
def test_rows_that_nothing_tells_apart_are_counted_and_stay(tmp_path: Path, id_: str | None, told: int) -> None:
    again = small_frame().head(30).with_columns(pl.format("again-{}", pl.col("row_id")).alias("row_id"))
    twice, spec = pl.concat([small_frame(), again]).sort("asked_at"), small_spec().model_copy(update={"id": id_})
    rows, checks = checked(tmp_path, twice, spec)
    assert (rows.height, checks.repeated, checks.bad_rows) == (twice.height, told, 0)


def test_a_few_bad_rows_go_to_quarantine_with_every_reason(tmp_path: Path) -> None:
    spec = with_checks(columns={"amount": {"min": -50}, "shop": {"allowed": ["north", "east", "south"]}})
    frame = small_frame().with_columns(at(5, "amount", -99.0), at(5, "shop", "mars"), at(6, "row_id", "row-5"))
    rows, checks = checked(tmp_path, frame, spec)
    assert rows.height == frame.height - 2
    assert checks.bad_rows == 2
    assert checks.quarantine == str(tmp_path / "quarantine" / "bad.parquet")
    kept = pl.read_parquet(checks.quarantine)
    assert kept["amount"].to_list()[0] == -99.0
    assert kept["_reasons"].to_list() == [
        ["amount is below -50", "shop is none of north, east, south"],
        ["row_id repeats an earlier row's"],
    ]


def test_too_many_bad_rows_stop_the_training_and_every_column_is_named(tmp_path: Path) -> None:
    spec = with_checks(columns={"amount": {"max": 0.0}, "shop": {"allowed": ["north"]}}, max_bad_rows=0.1)
    with pytest.raises(ChecksFailed) as failed:
        checked(tmp_path, small_frame(), spec)
    message = str(failed.value)
    assert "amount: is above 0 in " in message
    assert "shop: is none of north in " in message
    assert re.search(r"such as '(east', 'south|south', 'east)'", message)
    assert "the bad rows are in " in message


def test_missing_columns_are_named_all_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    frame = small_frame().rename({"amount": "amont"}).drop("shop")
    with pytest.raises(ChecksFailed, match=r"(?s)amount: is not in the table; did you mean 'amont'\?.*shop: is not in the table"):
        checked(tmp_path, frame)


def test_nulls_are_judged_by_their_share(tmp_path: Path) -> None:
    spec = with_checks(columns={"amount": {"max_null_rate": 0.25, "min": -50}})
    thin = small_frame().with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col("amount")).alias("amount")
    )
    with pytest.raises(ChecksFailed, match=r"amount: is null \(33\.4%; the spec lets 25\.0% through\) in 334 rows"):
        checked(tmp_path, thin, spec)
    assert checked(tmp_path, thin)[1].bad_rows == 0


def test_infinities_in_a_numeric_column_are_bad(tmp_path: Path) -> None:
    endless = small_frame().with_columns(at(2, "amount", float("inf")))
    assert [problem.what for problem in checked(tmp_path, endless)[1].problems] == ["is infinite"]


@pytest.mark.parametrize(
    ("moment", "what"),
    [(None, "has no readable time"), (NOW + timedelta(days=400), "in the future"), (LONG_AGO, "lies before 1900")],
)
def test_an_event_time_must_be_there_and_be_sane(tmp_path: Path, moment: datetime | None, what: str) -> None:
    _, checks = checked(tmp_path, small_frame().with_columns(at(0, "asked_at", moment)))
    assert checks.bad_rows == 1
    assert what in checks.problems[0].what


@pytest.mark.parametrize(
    ("task", "label", "what"),
    [
        ("binary", 2, "is not true, false, 1 or 0"),
        ("regression", float("inf"), "is not a finite number"),
        ("multiclass", "", "is not the name of a class"),
    ],
)
def test_a_label_must_suit_the_task(tmp_path: Path, task: Kind, label: object, what: str) -> None:
    _, checks = checked(tmp_path, small_frame(task).with_columns(at(9, "outcome", label)), small_spec(task))
    assert [(problem.column, problem.rows) for problem in checks.problems] == [("outcome", 1)]
    assert what in checks.problems[0].what


@pytest.mark.parametrize("labels", [{0: "false", 1: "true"}, {0: "0", 1: "TRUE"}, {0: 0.0, 1: 1.0}, {0: False, 1: True}])
def test_a_binary_label_may_come_in_several_types(tmp_path: Path, labels: dict[int, object]) -> None:
    outcome = pl.col("outcome").cast(pl.Int64).replace_strict(labels)
    rows, checks = checked(tmp_path, small_frame().with_columns(outcome))
    assert (rows.height, checks.unlabelled, checks.problems) == (small_frame().height, 0, ())


def test_a_nan_is_no_label_and_no_bad_row(tmp_path: Path) -> None:
    frame = small_frame("regression").with_columns(at(9, "outcome", float("nan")))
    rows, checks = checked(tmp_path, frame, small_spec("regression"))
    assert (rows.height, checks.unlabelled, checks.problems) == (frame.height - 1, 1, ())


def test_a_target_that_never_varies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChecksFailed, match="outcome: is always 1: there is nothing to learn"):
        checked(tmp_path, small_frame().with_columns(outcome=pl.lit(1)))


def test_too_few_labelled_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChecksFailed, match=r"outcome: is known for only 40 of 40 good rows; checks\.min_rows asks for 50"):
        checked(tmp_path, small_frame().head(40))
