"""Erasure in datasets: the tables that trainings have kept, without the rows of one id or of before a moment.

The dataset that retrainings start from becomes another one, without these rows; the others, which are copies that a retraining
makes anew, are deleted where they have any. What was quarantined of a dataset, and what a backtest has kept, goes with it.
"""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from monitoring.erasure import Subject
from monitoring.partitions import collect
from perennial.atomic_files import replace_stored
from perennial.errors import DataError
from perennial.input_contract import BASE_FILE, Base, read_base
from tasks.data.datasets import base_dataset, dataset_files, read_manifests, store_dataset
from tasks.data.pruning import delete_datasets


@dataclass(frozen=True)
class DatasetRows:
    """What the datasets have of a subject: rows of the base, the times of all rows, and the fingerprints of the others."""

    base_rows: int
    times: pl.Series
    others: tuple[str, ...]
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
    files = {manifest.fingerprint: dataset_files(home, manifest) for manifest in read_manifests(home)}
    times = {file: _times(file, rows, base.contract.event_time) for file in {file for own in files.values() for file in own}}
    counts = {fingerprint: sum(times[file].len() for file in own) for fingerprint, own in files.items()}
    others = tuple(fingerprint for fingerprint, count in counts.items() if count and fingerprint != base.fingerprint)
    found = pl.concat([nothing, *times.values()])
    return DatasetRows(counts.get(base.fingerprint, 0), found, others, base.contract.id is not None)


def erase_datasets(home: Path, subject: Subject, found: DatasetRows, now: datetime) -> None:
    """Delete and rewrite what was found; raises DataError where nothing would be left to retrain on."""
    base = read_base(home)
    if base is None or not found.found:
        return
    if found.base_rows:
        _rewrite_base(home, base, subject, now)
    delete_datasets(home, {*found.others, *([base.fingerprint] if found.base_rows else [])})
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


def _times(path: Path, rows: pl.Expr, time: str) -> pl.Series:
    table = pl.scan_parquet(path, hive_partitioning=False)
    found = collect(table.filter(rows).select(pl.col(time).cast(pl.Datetime("us", "UTC")).alias("time")), path)
    return found["time"]
