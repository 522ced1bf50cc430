"""Hourly rentals of Capital Bikeshare, Washington, 2011-12 (Fanaee-T and Gama 2013), from OpenML.

`BIKE_SHARING_CSV` names a local copy in the layout of the UCI archive (`hour.csv`), for machines without internet.
"""

import os

import polars as pl

OPENML_ID = 42712
"""The data set `Bike_Sharing_Demand` on OpenML: the same hours, with the codes spelt out."""


def rentals() -> pl.DataFrame:
    """One row per hour; `casual` and `registered` are left out, because they add up to the target."""
    local = os.environ.get("BIKE_SHARING_CSV")
    return _from_uci(pl.read_csv(local).drop_nulls("dteday")) if local else _from_openml()


def _from_uci(table: pl.DataFrame) -> pl.DataFrame:
    weather = {1: "clear", 2: "misty", 3: "rain", 4: "heavy_rain"}
    return table.select(
        (pl.col("dteday").str.to_datetime("%Y-%m-%d") + pl.duration(hours="hr")).alias("hour_start"),
        pl.col("holiday").cast(pl.Int8),
        pl.col("workingday").cast(pl.Int8).alias("working_day"),
        pl.col("weathersit").replace_strict(weather).alias("weather"),
        "temp",
        pl.col("atemp").alias("felt_temp"),
        pl.col("hum").alias("humidity"),
        "windspeed",
        pl.col("cnt").alias("count"),
    )


def _from_openml() -> pl.DataFrame:
    from sklearn.datasets import fetch_openml

    table = pl.from_pandas(fetch_openml(data_id=OPENML_ID, as_frame=True).frame)
    # OpenML kept year, month and hour but not the day: it follows from each midnight's passing.
    day = ((pl.col("hour").cast(pl.Int32).diff() < 0).fill_null(value=False)).cum_sum()
    return table.select(
        (pl.datetime(2011, 1, 1) + pl.duration(days=day, hours=pl.col("hour").cast(pl.Int32))).alias("hour_start"),
        (pl.col("holiday").cast(pl.String) == "True").cast(pl.Int8).alias("holiday"),
        (pl.col("workingday").cast(pl.String) == "True").cast(pl.Int8).alias("working_day"),
        pl.col("weather").cast(pl.String),
        "temp",
        pl.col("feel_temp").alias("felt_temp"),
        "humidity",
        "windspeed",
        "count",
    )
