"""The table to train on: 14 numbers and 6 categories of which a quarter matter, a time and a binary target; and its spec.

A year of rows in their order of time, written in parts and joined lazily, so that making it takes little memory.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

START, LENGTH = np.datetime64("2025-01-01", "us"), timedelta(days=364)
PART = 500_000  # rows made at once
TABLE, SPEC = "rows.parquet", "bench.toml"

REALS, WHOLES = tuple(f"real{at}" for at in range(10)), tuple(f"whole{at}" for at in range(4))
CATEGORIES = {"channel": 4, "region": 12, "device": 30, "product": 200, "partner": 800, "campaign": 3_000}
FEATURES = (*REALS, *WHOLES, *CATEGORIES)
TARGET, TIME = "outcome", "at"


def write_table(folder: Path, rows: int) -> None:
    """Write the table of so many rows, and its spec, into a folder."""
    parts = folder / "parts"
    parts.mkdir(parents=True)
    for first in range(0, rows, PART):
        _part(first, min(rows, first + PART), rows).write_parquet(parts / f"{first:012}.parquet")
    pl.scan_parquet(parts).sink_parquet(folder / TABLE)
    (folder / SPEC).write_text(_spec(), encoding="utf-8")


def _part(first: int, stop: int, rows: int) -> pl.DataFrame:
    chance, count = np.random.default_rng(first), stop - first
    reals = {name: chance.normal(size=count) for name in REALS}
    wholes = {name: chance.integers(0, 1_000, count) for name in WHOLES}
    codes = {name: (chance.beta(1, 3, count) * size).astype(int) for name, size in CATEGORIES.items()}
    age = np.arange(first, stop) / rows
    logit = reals["real0"] * (1 - age) + reals["real1"] * age + (reals["real2"] > 1) * reals["real3"] - 1
    logit += wholes["whole0"] / 1_000 + np.sin(codes["product"]) + 0.5 * np.sin(codes["campaign"])
    target = chance.random(count) < 1 / (1 + np.exp(-logit))
    times = START + (age * LENGTH.total_seconds() * 1e6).astype("timedelta64[us]")
    made = {TIME: times, **reals, **wholes, TARGET: target.astype(np.int8)}
    texts = {name: pl.Series(name, code).cast(pl.String) for name, code in codes.items()}
    holes = pl.Series(chance.random(count) < 0.01)
    frame = pl.DataFrame(made).with_columns(pl.lit(f"{name} ").add(text).alias(name) for name, text in texts.items())
    return frame.with_columns(pl.when(~holes).then(pl.col("real4", "device")))


def _spec() -> str:
    kinds = dict.fromkeys((*REALS, *WHOLES), "numeric") | dict.fromkeys(CATEGORIES, "categorical")
    features = "\n".join(f'{name} = "{kind}"' for name, kind in kinds.items())
    head = f'name = "bench"\ntask = "binary"\ntarget = "{TARGET}"\nevent_time = "{TIME}"\nsources.rows.path = "{TABLE}"\n'
    return f"{head}\n[features]\n{features}\n"
