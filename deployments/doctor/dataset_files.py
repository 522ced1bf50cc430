"""What may be damaged of a model's datasets: manifests, tables, and the file that names the one that retrainings start from.

A damaged dataset is set aside; the next training stores the table anew. Without the base there is no retraining until then.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import polars as pl

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command, set_aside
from deployments.doctor.monitor_files import wrong_with, wrong_with_parquet
from perennial.errors import NewerFormat, PerennialError
from perennial.input_contract import BASE_FILE, Base, read_base
from tasks.data.datasets import SHORT, Manifest, content_fingerprint, dataset_files, read_manifest

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
    wrong_with_file = cache(_wrong_with)  # datasets share parts, and each is read whole
    for directory in sorted(path.parent for path in folder.glob("*/manifest.json")):
        if broken := _broken_files(home, directory, wrong_with_file):
            said = "; ".join(f"{file.name} {wrong}" for file, wrong in broken.items())
            repair = _set_aside(directory, [*broken], base_file if directory == base else None)
            yield Damage(directory, said, repair_command(model), repair)


def _base_folder(home: Path) -> Path | None:
    try:
        base = read_base(home)
    except PerennialError:
        return None
    return home / "datasets" / base.fingerprint[:SHORT] if base is not None else None


def _broken_files(home: Path, directory: Path, wrong_with_file: Callable[[Path], str]) -> dict[Path, str]:
    """The files of a dataset that are broken, and what is wrong with each."""
    manifest = directory / "manifest.json"
    if wrong := wrong_with(manifest, Manifest):
        return {manifest: wrong}
    try:
        files = dataset_files(home, read_manifest(directory))
    except NewerFormat:  # which is not damaged, and its files are not known
        return {}
    looked_at = {file: wrong_with_file(file) for file in files}
    return {file: wrong for file, wrong in looked_at.items() if wrong}


def _wrong_with(file: Path) -> str:
    if wrong := wrong_with_parquet(file):
        return wrong
    named = file.parent.name if file.stem == "data" else file.stem  # one file of a dataset of before there were parts
    same = content_fingerprint(pl.read_parquet(file, hive_partitioning=False))[:SHORT] == named
    return "" if same else "has not the rows that were stored"


def _set_aside(directory: Path, files: list[Path], base_file: Path | None) -> Repair:
    """Moves the directory and the files that are broken: a part that stayed would be taken for stored by the next training."""

    def repair(quarantine: Quarantine) -> str:
        for file in files:
            if file.exists() and directory not in file.parents:  # another dataset with the same part may have moved it
                quarantine.move(file)
        kept = quarantine.move(directory)
        if base_file is None:
            return f"moved to {kept}; a training that reads the same table stores it anew"
        quarantine.move(base_file)
        return f"moved to {kept} with {base_file.name}; {TRAIN}"

    return repair
