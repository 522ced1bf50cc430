"""From sources to a dataset version: joined, derived, in order of time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import DataError, SpecError
from perennial.spec import ModelSpec, parse_spec
from tasks.data.ingest import Assembled, assemble, before, in_utc, ingest, parse_until
from tasks.job import Job
from tests.support.models import small_frame
from tests.tasks.making import make_job

MOMENT = datetime(2024, 1, 1, 8, tzinfo=UTC)
NAIVE = MOMENT.replace(tzinfo=None)
SALES = "when,shop,amount\n2024-01-02 08:00:00,north,2\n2024-01-01 08:00:00,east,3\n2024-01-03 08:00:00,west,4\n"
SHOPS = "shop,rent\nnorth,10\neast,20\n"


def spec(**changes: object) -> ModelSpec:
    raw = {
        "name": "sales",
        "task": "regression",
        "target": "amount",
        "event_time": "when",
        "sources": {"sales": {"path": "sales.csv"}, "shops": {"path": "shops.csv"}},
        "joins": [{"source": "shops", "on": ["shop"]}],
        "features": {"shop": "categorical", "rent": "numeric"},
    }
    return parse_spec({**raw, **changes}, "the test")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "sales.csv").write_text(SALES)
    (tmp_path / "shops.csv").write_text(SHOPS)
    return tmp_path


def test_sources_are_joined_derived_and_sorted_in_time(base: Path) -> None:
    table = assemble(spec(derive={"double": "amount * 2", "share": "rent / double"}), base, {}).frame
    assert table["when"].is_sorted()
    assert table.schema["when"] == pl.Datetime("us", "UTC")
    assert table["shop"].to_list() == ["east", "north", "west"]
    assert table["rent"].to_list() == [20, 10, None]
    assert table["share"].to_list() == [20 / 6, 10 / 4, None]


def test_an_inner_join_drops_rows_without_a_partner(base: Path) -> None:
    joined = assemble(spec(joins=[{"source": "shops", "on": ["shop"], "how": "inner"}]), base, {}).frame
    assert joined["shop"].to_list() == ["east", "north"]


def test_a_join_that_would_multiply_rows_is_refused(base: Path) -> None:
    (base / "shops.csv").write_text(SHOPS + "east,30\n")
    with pytest.raises(DataError, match="'shops' has several rows for one shop"):
        assemble(spec(), base, {})


def test_a_join_on_an_absent_column_names_the_side(base: Path) -> None:
    with pytest.raises(DataError, match="cannot join 'shops' on town: 'sales' has only when, shop, amount"):
        assemble(spec(joins=[{"source": "shops", "on": ["town"]}]), base, {})


def test_a_wrong_expression_is_named(base: Path) -> None:
    with pytest.raises(DataError, match=r"derive\.double = 'prize \* 2' cannot be computed"):
        assemble(spec(derive={"double": "prize * 2"}), base, {})


def test_an_empty_table_is_refused(base: Path) -> None:
    (base / "sales.csv").write_text("when,shop,amount\n")
    with pytest.raises(DataError, match="the sources hold no rows"):
        assemble(spec(joins=[]), base, {})


def test_an_event_time_that_is_none_is_refused(base: Path) -> None:
    (base / "sales.csv").write_text("when,shop,amount\nsoon,north,1\n")
    with pytest.raises(DataError, match=r"no value of event-time column 'when' is a time \(such as \['soon'\]\)"):
        assemble(spec(), base, {})
    with pytest.raises(DataError, match="event-time column 'amount' is Int64, not a time"):
        in_utc(pl.DataFrame({"amount": [1]}), "amount")


@pytest.mark.parametrize("value", [NAIVE, MOMENT])
def test_every_way_to_write_a_time_is_one_moment(value: object) -> None:
    assert in_utc(pl.DataFrame({"when": [value]}), "when")["when"].to_list() == [MOMENT]


def test_until_is_excluded_and_rows_without_a_time_stay_to_be_reported() -> None:
    moments = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2)]
    frame = pl.DataFrame({"when": [*moments, None]}, schema={"when": pl.Datetime("us", "UTC")})
    table = Assembled(frame, pl.Series([None, None, "soon"]), pl.DataFrame(), ())
    kept = before(table, "when", parse_until("2024-01-02"))
    assert (kept.frame["when"].to_list(), kept.unread.to_list()) == ([moments[0], None], [None, "soon"])
    with pytest.raises(DataError, match="no row lies before 2023-01-01 00:00: when starts at 2024-01-01"):
        before(table, "when", parse_until("2023-01-01"))
    with pytest.raises(DataError, match="until='tomorrow' is not a date"):
        parse_until("tomorrow")


def stored_parts(job: Job) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in job.home.glob("datasets/parts/*")}


def test_unchanged_content_is_the_same_dataset_and_is_written_once(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first = ingest.fn(job, None)
    written = stored_parts(job)
    again = ingest.fn(job, None)
    assert (again.manifest, again.path) == (first.manifest, first.path)
    assert stored_parts(job) == written
    assert first.path.name == first.manifest.fingerprint[:16]
    assert first.manifest.rows == small_frame().height


def test_a_changed_value_is_another_dataset(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    whole, part = ingest.fn(job, None), ingest.fn(job, "2024-01-20")
    changed = small_frame().with_columns(pl.col("amount") + pl.when(pl.int_range(pl.len()) == 5).then(1e-6).otherwise(0))
    changed.write_parquet(tmp_path / "rows.parquet")
    assert len({one.manifest.fingerprint for one in (whole, part, ingest.fn(job, None))}) == 3


def test_rows_without_a_time_get_one_in_their_order(base: Path) -> None:
    sales = {"path": "sales.csv", "time_from_rows": "2/day", "time_start": "1969-12-31"}
    timed = assemble(spec(event_time="at", sources={"sales": sales, "shops": {"path": "shops.csv"}}), base, {})
    start = datetime(1969, 12, 31, tzinfo=UTC)
    assert timed.frame["at"].to_list() == [start + number * timedelta(hours=12) for number in range(3)]
    assert timed.frame["shop"].to_list() == ["north", "east", "west"]


@pytest.mark.parametrize("rate", ["1000", "0/day", "1000/fortnight", "-1/day", "1e3/day"])
def test_a_rate_that_is_none_is_refused_with_an_example(rate: str) -> None:
    with pytest.raises(SpecError, match=r"sources.sales.time_from_rows: write rows by .*, such as 1000/day"):
        spec(sources={"sales": {"path": "sales.csv", "time_from_rows": rate}}, joins=[])


def test_times_of_rows_beside_a_column_of_that_name_or_in_a_joined_source_are_refused(base: Path) -> None:
    timed = {"path": "sales.csv", "time_from_rows": "1000/day"}
    with pytest.raises(DataError, match="'sales' has the column 'when' and time_from_rows, which makes it"):
        assemble(spec(sources={"sales": timed, "shops": {"path": "shops.csv"}}), base, {})
    with pytest.raises(SpecError, match="rows of the first source, 'sales'; take it out of 'shops'"):
        spec(sources={"sales": {"path": "sales.csv"}, "shops": {**timed, "path": "shops.csv"}})
