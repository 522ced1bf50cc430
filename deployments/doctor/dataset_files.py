"""What may be damaged of a model's datasets: manifests, tables, and the file that names the one that retrainings start from.

A damaged dataset is set aside; the next training stores the table anew. Without the base there is no retraining until then.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command, set_aside
from deployments.doctor.monitor_files import wrong_with, wrong_with_parquet
from perennial.errors import PerennialError
from perennial.input_contract import BASE_FILE, Base, read_base
from tasks.data.datasets import SHORT, Manifest, content_fingerprint

TRAIN = "retrainings start from the next `perennial train SPEC`"


def dataset_damages(home: Path, model: str) -> Iterator[Damage]:
    """Everything that is wrong in a model's directory of datasets."""
    folder = home / "datasets"
    base_file = folder / BASE_FILE
    if wrong := wrong_with(base_file, Base):
        yield set_aside(base_file, wrong, model, TRAIN)
    base = _base_folder(home)
    if base is not None and not (base / "manifest.json").exists():
        yield set_aside(base_file, f"names the dataset {base.name}, which is not there", model, TRAIN)
    for directory in sorted(path.parent for path in folder.glob("*/manifest.json")):
        if wrong := _wrong_with(directory):
            yield Damage(directory, wrong, repair_command(model), _set_aside(directory, base_file if directory == base else None))


def _base_folder(home: Path) -> Path | None:
    try:
        base = read_base(home)
    except PerennialError:
        return None
    return home / "datasets" / base.fingerprint[:SHORT] if base is not None else None


def _wrong_with(directory: Path) -> str:
    manifest, table = directory / "manifest.json", directory / "data.parquet"
    if wrong := wrong_with(manifest, Manifest):
        return f"{manifest.name} {wrong}"
    if wrong := wrong_with_parquet(table):
        return f"{table.name} {wrong}"
    same = content_fingerprint(pl.read_parquet(table))[:SHORT] == directory.name
    return "" if same else f"{table.name} is not the table that was stored"


def _set_aside(directory: Path, base_file: Path | None) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        kept = quarantine.move(directory)
        if base_file is None:
            return f"moved to {kept}; a training that reads the same table stores it anew"
        quarantine.move(base_file)
        return f"moved to {kept} with {base_file.name}; {TRAIN}"

    return repair
