"""What is measured, each in a process of its own: `python -m benchmarks.train.subject ours|plain FOLDER`.

`ours` is the flow `train`, every task of it under a stopwatch. `plain` is what a person writes with polars and LightGBM for one
fit with the parameters and rounds that ours chose. Both print a line of JSON when a step begins and when it ends.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.train.table import CATEGORIES, FEATURES, SPEC, TABLE, TARGET

CHOSEN = "chosen.json"
"""Parameters and rounds of the model that ours has trained, from which plain takes them."""


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say that a step begins and ends, with the processor time of this process."""
    _say(step=name, at=time.time(), cpu=time.process_time(), begins=True)
    try:
        yield
    finally:
        _say(step=name, at=time.time(), cpu=time.process_time(), begins=False)


def _say(**what: Any) -> None:
    sys.__stdout__.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def ours(folder: Path) -> None:
    """Train by the flow."""
    from prefect import Task

    from flows.train import train
    from perennial.model_loading import load_card
    from perennial.registry import Registry
    from perennial.settings import load_settings

    plain_call = Task.__call__

    def timed(task: Task[Any, Any], *args: Any, **options: Any) -> Any:
        with step(task.name):
            return plain_call(task, *args, **options)

    Task.__call__ = timed  # type: ignore[method-assign]
    version = train(str(folder / SPEC))
    card = load_card(Registry(load_settings(os.environ).registry_url), "bench", version)
    (folder / CHOSEN).write_text(json.dumps({"params": card.params, "rounds": card.rounds}))


def plain(folder: Path) -> None:
    """Read, encode and fit, once."""
    with step("import"):
        import lightgbm as lgb
        import polars as pl
    chosen = json.loads((folder / CHOSEN).read_text())
    with step("read"):
        frame = pl.read_parquet(folder / TABLE)
    with step("encode"):
        names = {name: frame[name].drop_nulls().unique().sort() for name in CATEGORIES}
        codes = [pl.col(name).cast(pl.Enum(known)).to_physical() for name, known in names.items()]
        matrix = frame.with_columns(codes).select(pl.col(FEATURES).cast(pl.Float64)).to_numpy()
    with step("fit"):
        params = {"objective": "binary", "verbosity": -1, "deterministic": True, "force_row_wise": True, **chosen["params"]}
        places = [FEATURES.index(name) for name in CATEGORIES]
        rows = lgb.Dataset(matrix, frame[TARGET].to_numpy(), categorical_feature=places, params=params)
        lgb.train(params, rows, chosen["rounds"])


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    {"ours": ours, "plain": plain}[sys.argv[1]](Path(sys.argv[2]))
