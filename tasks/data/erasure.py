"""Erasure in datasets: the tables that trainings have kept, without the rows of one id or of before a moment.

The dataset that retrainings start from becomes another one, without these rows; the others, which are copies that a retraining
makes anew, are deleted where they have any. What was quarantined of a dataset, and what a backtest has kept, goes with it.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from monitoring.erasure import Subject
from monitoring.partitions import collect
from perennial.atomic_files import replace_stored
from perennial.errors import DataError
from perennial.input_contract import BASE_FILE, Base, read_base
from tasks.data.datasets import SHORT, base_dataset, store_dataset


@dataclass(frozen=True)
class DatasetRows:
    """What the datasets have of a subject: rows of the base, the times of all rows, and the directories of the others."""

    base_rows: int
    times: pl.Series
    others: tuple[Path, ...]
    searchable: bool = True  # whether the rows have an id to look for

    @property
    def found(self) -> bool:
        return bool(self.base_rows or self.others)


def find_dataset_rows(home: Path, subject: Subject) -> DatasetRows:
    """Look through the datasets below a model's home; raises DataError where one cannot be read."""
    base, nothing = read_base(home), pl.Series("time", [], pl.Datetime("us", "UTC"))
    if base is None:
        return DatasetRows(0, nothing, ())
    rows = subject.rows(base.contract.id, base.contract.event_time)
    counted = {path: _times(path, rows, base.contract.event_time) for path in _tables(home)}
    own = home / "datasets" / base.fingerprint[:SHORT]
    others = tuple(path.parent for path, times in counted.items() if times.len() and path.parent != own)
    base_rows = counted.get(own / "data.parquet", nothing).len()
    return DatasetRows(base_rows, pl.concat([nothing, *counted.values()]), others, base.contract.id is not None)


def erase_datasets(home: Path, subject: Subject, found: DatasetRows, now: datetime) -> None:
    """Delete and rewrite what was found; raises DataError where nothing would be left to retrain on."""
    base = read_base(home)
    if base is None or not found.found:
        return
    if found.base_rows:
        _rewrite_base(home, base, subject, now)
    for directory in found.others:
        _remove_dataset(home, directory)
    shutil.rmtree(home / "backtest", ignore_errors=True)


def require_rest(home: Path, found: DatasetRows) -> None:
    """Raise DataError, before anything is touched, where the base dataset would have no row left."""
    if found.base_rows and found.base_rows == base_dataset(home).frame.height:
        raise DataError(
            f"all {found.base_rows:,} rows of the dataset that retrainings start from would go: run `perennial train` on sources "
            "without them first, or `perennial remove` the model"
        )


def _rewrite_base(home: Path, base: Base, subject: Subject, now: datetime) -> None:
    before, contract = base_dataset(home), base.contract
    rest = before.frame.filter(~subject.rows(contract.id, contract.event_time).fill_null(value=False))
    after = store_dataset(rest, contract.event_time, home, (*before.manifest.origin, "without erased rows"), now)
    replace_stored(home / "datasets" / BASE_FILE, base.model_copy(update={"fingerprint": after.manifest.fingerprint}))
    _remove_dataset(home, before.path)


def _remove_dataset(home: Path, directory: Path) -> None:
    shutil.rmtree(directory)
    (home / "quarantine" / f"{directory.name}.parquet").unlink(missing_ok=True)


def _tables(home: Path) -> Iterator[Path]:
    yield from sorted((home / "datasets").glob("*/data.parquet"))


def _times(path: Path, rows: pl.Expr, time: str) -> pl.Series:
    found = collect(pl.scan_parquet(path).filter(rows).select(pl.col(time).cast(pl.Datetime("us", "UTC")).alias("time")), path)
    return found["time"]
