"""A table scored by the champion, as a flow."""

from pathlib import Path

import polars as pl
import pytest

from flows.batch_predict import batch_predict
from flows.train import train
from perennial.errors import TrainingError
from tests.flows.asking import runs
from tests.support.models import small_frame, write_small


def test_a_table_is_scored_with_the_champion(home: Path, prefect_api: str) -> None:
    spec = write_small(home)
    train(str(spec))
    small_frame(rows=30, seed=4).write_parquet(home / "new.parquet")
    output = batch_predict(str(spec), str(home / "new.parquet"), str(home / "scores.parquet"))
    assert (pl.read_parquet(output.file).height, output.rows, output.problems) == (30, 30, ())
    assert runs(prefect_api, "batch-predict")[0]["name"] == "small new.parquet"


def test_without_a_champion_the_fix_is_named(home: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no champion in .*: run the `train` flow first"):
        batch_predict(str(write_small(home)), str(home / "rows.parquet"), str(home / "scores.parquet"))
