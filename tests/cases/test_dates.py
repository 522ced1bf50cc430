"""A date is read in the one way it can be read; where there are two ways, the person says which."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import ChecksFailed, DataError
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.cases.test_kinds import checked, read

CASE = "us-dates-early-in-month"
DAYS = pl.datetime_range(datetime(2019, 1, 1), datetime(2020, 2, 4), "1d", eager=True)  # noqa: DTZ001 - as a file has them


def with_times(tmp_path: Path, texts: pl.Series | list[str], form: str | None = None) -> Path:
    """A copy of the case with other event times, and their format in the spec."""
    spec = copy_case(CASE, tmp_path)
    if form is not None:
        edit_spec(spec, **{"sources.rows.time_format": f'sources.rows.time_format = {{ ts = "{form}" }}'})
    table = read_rows(spec)
    write_rows(spec, table.head(len(texts)).with_columns(ts=pl.Series(texts).head(table.height)))
    return spec


def test_an_ambiguous_order_of_day_and_month_shows_two_examples_with_both_readings(tmp_path: Path) -> None:
    with pytest.raises(DataError) as asked:
        read(copy_case(CASE, tmp_path))
    message = str(asked.value)
    assert "'01/02/2019' is 2 January 2019 or 1 February 2019 and '01/03/2019' is 3 January 2019 or 1 March 2019" in message
    assert 'sources.rows.time_format = { "ts" = "%m/%d/%Y" } if the month comes first' in message
    assert '"%d/%m/%Y"' in message


@pytest.mark.parametrize(("form", "second"), [("%m/%d/%Y", datetime(2019, 1, 2)), ("%d/%m/%Y", datetime(2019, 2, 1))])  # noqa: DTZ001
def test_the_format_says_which(tmp_path: Path, form: str, second: datetime) -> None:
    spec = edit_spec(copy_case(CASE, tmp_path), key=f'sources.rows.time_format = {{ ts = "{form}" }}')
    frame = read(spec).frame.sort("rid")
    assert frame.filter(pl.col("rid") == "r1")["ts"].to_list() == [second.replace(tzinfo=UTC)]


@pytest.mark.parametrize("form", ["%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %I:%M %p"])
def test_a_day_after_the_twelfth_shows_the_order(tmp_path: Path, form: str) -> None:
    frame = read(with_times(tmp_path, DAYS.dt.strftime(form))).frame
    assert frame["ts"].dt.replace_time_zone(None).to_list() == DAYS.head(frame.height).to_list()


def test_two_orders_in_one_column_are_an_error_that_shows_both(tmp_path: Path) -> None:
    texts = [*DAYS.dt.strftime("%m/%d/%Y").head(200), *DAYS.dt.strftime("%d/%m/%Y").slice(200, 200)]
    with pytest.raises(DataError, match=r"holds both .* and .*: day and month come in two orders"):
        read(with_times(tmp_path, texts))


def test_unreadable_times_are_quarantined_with_their_text_and_an_example_is_in_the_message(tmp_path: Path) -> None:
    texts = DAYS.dt.strftime("%Y-%m-%d").to_list()
    texts[5], texts[9] = "2019-02-30", "soon"
    rows, checks = checked(with_times(tmp_path, texts))
    assert (rows.height, checks.bad_rows) == (398, 2)
    assert str(checks.problems[0]) == "ts: has no readable time in 2 rows, such as '2019-02-30', 'soon'"
    assert checks.quarantine is not None
    assert pl.read_parquet(checks.quarantine)["ts"].to_list() == ["2019-02-30", "soon"]


def test_too_many_unreadable_times_end_the_training_with_an_example(tmp_path: Path) -> None:
    texts = ["soon" if row % 4 == 0 else text for row, text in enumerate(DAYS.dt.strftime("%Y-%m-%d"))]
    with pytest.raises(ChecksFailed, match="ts: has no readable time in 100 rows, such as 'soon'"):
        checked(with_times(tmp_path, texts))


def test_a_format_that_reads_no_value_is_named_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'%d\.%m\.%Y' does not read '2019-01-01'"):
        read(with_times(tmp_path, DAYS.dt.strftime("%Y-%m-%d"), "%d.%m.%Y"))


def test_years_of_two_digits_ask_for_a_format(tmp_path: Path) -> None:
    texts = DAYS.dt.strftime("%m/%d/%y")
    with pytest.raises(DataError, match=r"has years of two digits, such as '01/01/19': write .*%m/%d/%y"):
        read(with_times(tmp_path, texts))
    assert read(with_times(tmp_path / "again", texts, "%m/%d/%y")).frame["ts"][0] == datetime(2019, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S,%f", "%Y-%m-%d-%H.%M.%S", "%a %b %d %H:%M:%S %Y", "%d-%b-%y", "%d/%m/%Y %H:%M %z"],
)
def test_a_format_is_read_as_python_means_it(tmp_path: Path, form: str) -> None:
    moments = [moment.replace(hour=20 if "%H" in form else 0, tzinfo=UTC) for moment in DAYS]
    spec = with_times(tmp_path, [moment.strftime(form) for moment in moments], form)
    assert read(spec).frame["ts"].to_list() == moments[:400]


def test_a_format_of_an_absent_column_is_refused(tmp_path: Path) -> None:
    spec = edit_spec(copy_case(CASE, tmp_path), key='sources.rows.time_format = { when = "%m/%d/%Y" }')
    with pytest.raises(DataError, match=r"sources\.rows\.time_format names 'when', but the columns are rid, ts"):
        read(spec)


def test_a_few_stray_dates_in_another_order_are_unreadable_not_guessed(tmp_path: Path) -> None:
    texts = DAYS.dt.strftime("%Y-%m-%d").to_list()
    texts[3] = "01/02/2019"
    _, checks = checked(with_times(tmp_path, texts))
    assert str(checks.problems[0]) == "ts: has no readable time in 1 rows, such as '01/02/2019'"


@pytest.mark.parametrize(("form", "unit"), [("epoch_s", 1), ("epoch_ms", 1_000), ("epoch_us", 1_000_000)])
def test_numbers_since_1970_are_read_when_the_format_says_so(tmp_path: Path, form: str, unit: int) -> None:
    numbers = (DAYS.dt.epoch("s") * unit).cast(pl.String)
    with pytest.raises(DataError, match=rf'write .*= {{ "ts" = "{form}" }} if the first is 2019-01-01 00:00:00'):
        read(with_times(tmp_path, numbers))
    assert read(with_times(tmp_path / "again", numbers, form)).frame["ts"][1] == datetime(2019, 1, 2, tzinfo=UTC)


ONE_READING = (
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%B %d, %Y", "%d-%b-%Y",
    "%Y-%m-%d %H:%M:%S UTC", "%Y%m%dT%H%M%SZ", "%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S.%f", "%a, %d %b %Y %H:%M:%S +0000",
)  # fmt: skip


@pytest.mark.parametrize("form", ONE_READING)
def test_times_of_one_reading_need_no_format(tmp_path: Path, form: str) -> None:
    assert read(with_times(tmp_path, DAYS.dt.strftime(form))).frame["ts"][1] == datetime(2019, 1, 2, tzinfo=UTC)


def test_zones_and_naive_times_mix_into_utc(tmp_path: Path) -> None:
    forms = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+02:00", "%Y-%m-%d")
    texts = [moment.strftime(forms[row % 4]) for row, moment in enumerate(DAYS)]
    times = read(with_times(tmp_path, texts)).frame["ts"]
    expected = [moment.replace(tzinfo=UTC) - timedelta(hours=2 if row % 4 == 2 else 0) for row, moment in enumerate(DAYS)]
    assert times.to_list() == sorted(expected[:400])


def test_a_second_time_column_is_asked_about_as_well(tmp_path: Path) -> None:
    spec = with_times(tmp_path, DAYS.dt.strftime("%Y-%m-%d"))
    edit_spec(spec, month='month = { date_part = "month", of = "paid" }')
    table = read_rows(spec)
    write_rows(spec, table.with_columns(paid=pl.Series(DAYS.dt.strftime("%d/%m/%Y")).str.replace(r"^\d\d", "05").head(400)))
    with pytest.raises(DataError, match="column 'paid' of source 'rows' can be read in two ways"):
        read(spec)
