"""Tables that nobody tuned for become specs that check and train at once; what cannot be told is asked, never guessed."""

import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import DataError, PerennialError, SpecError
from perennial.spec import ModelSpec
from tasks.data.ingest import assemble
from tasks.proposal.propose import Wishes, propose
from tasks.proposal.questions import Question, refuse
from tests.tasks.proposal.tables import NOW, chance, daily, hourly, impossible, left_out, noisy, numbers, proposed


def test_daily_rows_from_before_1970_have_windows_that_close_and_are_judged(tmp_path: Path) -> None:
    table = daily(9_000)
    table.with_columns(noisy(table).alias("rain")).write_csv(tmp_path / "weather.csv")
    found = proposed(tmp_path / "weather.csv", tmp_path, target="rain")
    assert (found.spec.task, found.spec.event_time, found.spec.name) == ("regression", "day", "weather")
    assert impossible(found) == []
    assert found.spec.window.length > timedelta(days=7)
    assert found.spec.window.min_rows < 200
    assert found.spec.sources["rows"].path == "weather.csv", "the spec and its table may move together"


def test_without_a_time_the_message_says_what_to_give_and_what_it_means(tmp_path: Path) -> None:
    table = numbers(3_000)
    adult = table.with_columns((noisy(table) > 11).replace_strict({True: ">50K", False: "<=50K"}).alias("income"))
    adult.with_columns(pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit("?")).otherwise("shop").alias("shop")).write_csv(
        tmp_path / "adult.csv"
    )
    with pytest.raises(DataError, match=r"no column is a time .*--time-from-rows 1000/day.*hours and weekdays mean nothing"):
        propose(Wishes("adult.csv", target="income", positive=">50K"), tmp_path, {}, refuse, NOW)
    found = proposed("adult.csv", tmp_path, target="income", positive=">50K", time_from_rows="100/day")
    source = found.spec.sources["rows"]
    assert (found.spec.event_time, source.time_from_rows, source.time_start) == ("row_time", "100/day", date(2026, 1, 30))
    assert "?" in source.nulls
    assert not [one for one in found.spec.features.values() if one.operation == "date_part"]
    assert impossible(found) == []


def test_classes_as_texts_are_multiclass(tmp_path: Path) -> None:
    table = numbers(2_000)
    kind = pl.when(noisy(table) < 8).then(pl.lit("low")).when(noisy(table) < 12).then(pl.lit("middle")).otherwise(pl.lit("high"))
    at = pl.datetime_range(datetime(2020, 1, 1), datetime(2021, 1, 1), "1h", eager=True).head(2_000).alias("at")  # noqa: DTZ001
    table.with_columns(kind.alias("kind"), at, key=pl.format("row {}", pl.int_range(pl.len()))).write_parquet(
        tmp_path / "k.parquet"
    )
    found = proposed(tmp_path / "k.parquet", tmp_path, target="kind")
    assert (found.spec.task, found.spec.id) == ("multiclass", "key")
    assert set(found.spec.features) == {"at_hour", "at_weekday", "amount", "shop"}


def test_a_semicolon_file_with_decimal_commas_and_another_encoding(tmp_path: Path) -> None:
    table = daily(800, date(2015, 1, 1)).with_columns(pl.col("shop").replace({"north": "Köln"}))
    table = table.with_columns(noisy(table).alias("größe"))
    texts = table.with_columns(pl.col(pl.Float64).cast(pl.String).str.replace(".", ",", literal=True))
    (tmp_path / "t.csv").write_bytes(texts.write_csv(separator=";").encode("cp1252"))
    found = proposed(tmp_path / "t.csv", tmp_path, target="größe")
    source = found.spec.sources["rows"]
    assert (source.separator, source.decimal, source.encoding) == (";", ",", "cp1252")
    assert found.spec.features["amount"].kind == "numeric"


STAMPS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "epoch_s": lambda time: time.dt.epoch("s"),
    "epoch_ms": lambda time: time.dt.epoch("ms"),
    "%Y%m%d": lambda time: time.dt.strftime("%Y%m%d").cast(pl.Int64),
}


@pytest.mark.parametrize("form", STAMPS)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_times_that_are_numbers_are_read_in_their_format(tmp_path: Path, form: str, ending: str) -> None:
    table = daily(900, date(2012, 5, 1)).with_columns(STAMPS[form](pl.col("day").cast(pl.Datetime("us"))).alias("timestamp"))
    table = table.drop("day").with_columns(noisy(table).alias("y"))
    getattr(table, f"write_{ending}")(tmp_path / f"t.{ending}")
    found = proposed(tmp_path / f"t.{ending}", tmp_path, target="y")
    assert found.spec.sources["rows"].time_format == {"timestamp": form}
    assert assemble(found.spec, tmp_path, {}).frame["timestamp"].min() == datetime(2012, 5, 1, tzinfo=UTC)


def test_a_date_beside_an_hour_and_year_month_day_are_one_moment(tmp_path: Path) -> None:
    at = pl.datetime_range(datetime(2011, 1, 1), datetime(2012, 1, 1), "1h", eager=True).head(3_000)  # noqa: DTZ001
    table = numbers(3_000).with_columns(date=at.dt.date(), hr=at.dt.hour())
    table.with_columns(noisy(table).alias("y")).write_csv(tmp_path / "hours.csv")
    found = proposed(tmp_path / "hours.csv", tmp_path, target="y")
    assert assemble(found.spec, tmp_path, {}).frame["event_time"].dt.replace_time_zone(None).to_list() == at.to_list()
    apart = table.drop("date").with_columns(year=at.dt.year(), month=at.dt.month(), day=at.dt.day())
    apart.with_columns(noisy(table).alias("y")).write_csv(tmp_path / "parts.csv")
    found = proposed(tmp_path / "parts.csv", tmp_path, target="y")
    assert assemble(found.spec, tmp_path, {}).frame["event_time"].dt.replace_time_zone(None).to_list() == at.to_list()


def test_an_order_of_day_and_month_that_no_value_shows_is_asked(tmp_path: Path) -> None:
    days = pl.Series([f"{1 + number % 12:02d}/{1 + number // 12 % 12:02d}/{2000 + number // 144}" for number in range(600)])
    table = numbers(600).with_columns(days.alias("day"))
    table.with_columns(noisy(table).alias("y")).write_csv(tmp_path / "t.csv")
    with pytest.raises(SpecError, match=r"give --time-format\n  --time-format '%m/%d/%Y' +month first\n.*day first"):
        propose(Wishes("t.csv", target="y"), tmp_path, {}, refuse, NOW)
    asked: list[Question] = []

    def answer(question: Question) -> str:
        asked.append(question)
        return "%d/%m/%Y"

    found = propose(Wishes("t.csv", target="y"), tmp_path, {}, answer, NOW)
    assert [one.option for one in asked] == ["time-format"]
    assert found.spec.sources["rows"].time_format == {"day": "%d/%m/%Y"}


@pytest.mark.parametrize(
    ("true", "false", "positive"),
    [("yes", "no", None), ("True", "False", None), ("1", "0", None), ("Y", "N", "Y"), ("t", "f", "t"), ("1", "-1", "1")],
)
def test_values_that_say_themselves_which_is_true(tmp_path: Path, true: str, false: str, positive: str | None) -> None:
    table = daily(700, date(2020, 1, 1))
    label = pl.when(noisy(table) > 10).then(pl.lit(true)).otherwise(pl.lit(false)).alias("y")
    table.with_columns(label, flag=pl.when(pl.col("amount") > 9).then(pl.lit("true")).otherwise(pl.lit("false"))).write_csv(
        tmp_path / "t.csv"
    )
    spec = proposed(tmp_path / "t.csv", tmp_path, target="y").spec
    assert (spec.task, spec.positive) == ("binary", positive)


def test_two_other_values_and_few_whole_numbers_are_asked(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1))
    table = table.with_columns(stars=pl.col("amount").round().cast(pl.Int64) % 5, side=pl.col("shop").replace("south", "east"))
    table.write_csv(tmp_path / "t.csv")
    for target, question in {"side": "--positive 'east'", "stars": "--task 'regression'"}.items():
        with pytest.raises(SpecError, match=question):
            propose(Wishes("t.csv", target=target), tmp_path, {}, refuse, NOW)
    with pytest.raises(SpecError, match="give --target\n"):
        propose(Wishes("t.csv"), tmp_path, {}, refuse, NOW)
    with pytest.raises(DataError, match="no column 'sides'; did you mean 'side'"):
        propose(Wishes("t.csv", target="sides"), tmp_path, {}, refuse, NOW)


def test_what_knows_the_answer_is_left_out_with_the_reason(tmp_path: Path) -> None:
    table = daily(2_000, date(2015, 1, 1))
    y = noisy(table)
    first = pl.Series(chance(3).normal(3, 1, 2_000))
    unknown = pl.int_range(pl.len()) >= 1_900
    table = table.with_columns(
        y=pl.when(~unknown).then(y),
        copy=y * 2 + 1,
        part=first,
        rest=y - first,
        nearly=y + 0.001,
        later=pl.when(~unknown).then(pl.col("amount") * 3),
        returned=pl.col("day") + pl.duration(days=3),
        one=pl.lit("x"),
        text=pl.format("a remark of its own {}", pl.int_range(pl.len()) // 2),
    )
    table.write_parquet(tmp_path / "t.parquet")
    found = propose(Wishes("t.parquet", target="y", time="day"), tmp_path, {}, refuse, NOW)
    assert "a leak is suspected" in left_out(found, "copy")
    assert "part + rest is the target" in left_out(found, "part")
    assert "a leak is suspected" in left_out(found, "nearly")
    assert "null in just the 100 rows" in left_out(found, "later")
    assert "known only later" in left_out(found, "returned")
    assert "always 'x'" in left_out(found, "one")
    assert "no categories" in left_out(found, "text")
    assert "amount" in found.spec.features
    assert "# copy: left out, a leak is suspected" in found.text


def test_a_strong_feature_is_kept_and_its_suspicion_written_beside_it(tmp_path: Path) -> None:
    strong, noise = (pl.Series(chance(seed).normal(0, 1, 2_000)) for seed in (4, 5))
    daily(2_000, date(2015, 1, 1)).with_columns(y=strong * 9 + noise, strong=strong, free=noise).write_parquet(
        tmp_path / "t.parquet"
    )
    found = propose(Wishes("t.parquet", target="y", time="day"), tmp_path, {}, refuse, NOW)
    assert "strong" in found.spec.features
    assert "a leak is suspected: alone explains 98." in found.text
    assert "free" in found.spec.features, "numbers that never repeat are no copy of a target that never repeats"


def test_strange_names_of_columns_are_written_so_that_toml_reads_them(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1)).with_columns(noisy(daily(700)).alias('the "y" = [x]'))
    names = {"amount": "an amount, in €\n(net)", "shop": "shop.name"}
    strange = table.rename(names).with_columns(pl.lit(1).alias("_own"), pl.col("day").alias("*"))
    strange.write_parquet(tmp_path / "t.parquet")
    found = proposed(tmp_path / "t.parquet", tmp_path, target='the "y" = [x]', time="day")
    assert {"an amount, in €\n(net)", "shop.name"} <= set(found.spec.features)
    assert "a spec cannot name it" in left_out(found, "_own")


def test_a_file_without_a_header_and_a_target_that_is_a_number(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1))
    table.with_columns(noisy(table).alias("y")).write_csv(tmp_path / "t.csv", include_header=False)
    found = proposed(tmp_path / "t.csv", tmp_path, target="column_4")
    assert found.spec.event_time == "column_1"


def test_several_times_are_asked_and_a_column_that_is_none_is_refused(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1)).with_columns(seen=pl.col("day") - pl.duration(days=1))
    table.with_columns(noisy(table).alias("y")).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(SpecError, match=r"give --time\n.*'day'.*\n.*'seen'"):
        propose(Wishes("t.parquet", target="y"), tmp_path, {}, refuse, NOW)
    with pytest.raises(DataError, match=r"--time 'shop' holds .* which is no time"):
        propose(Wishes("t.parquet", target="y", time="shop"), tmp_path, {}, refuse, NOW)


def test_a_query_and_a_glob_are_tables_too(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1))
    table = table.with_columns(noisy(table).alias("y"), day=pl.col("day").cast(pl.String))
    with closing(sqlite3.connect(tmp_path / "d.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE sales (day TEXT, amount REAL, shop TEXT, y REAL)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", table.rows())
    environ = {"SALES": f"sqlite:///{tmp_path / 'd.sqlite'}"}
    query = "SELECT * FROM sales ORDER BY day"
    found = proposed(query, tmp_path, environ, target="y", connection="SALES", name="sales")
    assert found.spec.sources["rows"].query == query
    for number, part in enumerate(table.iter_slices(350)):
        part.write_csv(tmp_path / f"part-{number}.csv")
    assert "700 rows" in proposed("part-*.csv", tmp_path, target="y", name="parts").sample
    with pytest.raises(PerennialError, match="is a query: give --connection"):
        propose(Wishes(query, target="y"), tmp_path, {}, refuse, NOW)


def test_a_table_in_which_nothing_is_left_to_learn_from_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"y": noisy(numbers(500)), "twice": noisy(numbers(500)) * 2}).write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"no column is left to learn from.*\n  twice: left out, a leak is suspected"):
        propose(Wishes("t.csv", target="y", time_from_rows="10/day"), tmp_path, {}, refuse, NOW)


def test_the_text_is_the_spec(tmp_path: Path) -> None:
    table = daily(700, date(2020, 1, 1))
    table.with_columns(noisy(table).alias("y")).write_csv(tmp_path / "t.csv")
    found = proposed(tmp_path / "t.csv", tmp_path, target="y")
    assert ModelSpec.model_validate(tomllib.loads(found.text)) == found.spec
    assert "# when a row is asked about" in found.text


def test_a_column_with_infinities_is_looked_at_without_a_warning(tmp_path: Path) -> None:
    table = hourly(800)
    edge = pl.when(pl.int_range(pl.len()) % 3 == 0).then(float("inf")).otherwise("amount")
    table.with_columns(noisy(table).alias("y"), edge.alias("ratio")).write_parquet(tmp_path / "t.parquet")
    assert "ratio" in propose(Wishes("t.parquet", target="y"), tmp_path, {}, refuse, NOW).spec.features


def test_the_first_day_of_a_month_has_no_weekday(tmp_path: Path) -> None:
    table = daily(3_000).with_columns(pl.col("day").dt.month_start())
    table.with_columns(noisy(table).alias("y")).write_parquet(tmp_path / "t.parquet")
    found = proposed("t.parquet", tmp_path, target="y")
    assert set(found.spec.features) == {"day_month", "amount", "shop"}
