"""Elec2: half hours of the New South Wales electricity market, 1996-98 (Harries 1999), from the CSV that `ELECTRICITY_CSV` names.

The file has no header, and its `date` is a fraction; the half hours are counted from the first day instead.
"""

import os
from datetime import UTC, datetime

import polars as pl

COLUMNS = ("date", "day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "class")
FIRST = datetime(1996, 5, 7, tzinfo=UTC)


def half_hours() -> pl.DataFrame:
    """One row per half hour; `up` says whether the price is above its mean of the last day."""
    table = pl.read_csv(os.environ["ELECTRICITY_CSV"], has_header=False, new_columns=list(COLUMNS))
    time = pl.lit(FIRST) + pl.duration(minutes=30) * pl.int_range(pl.len())
    return table.select(time.alias("time"), pl.exclude("date", "class"), (pl.col("class") == "UP").alias("up"))
