"""Pruning: datasets of a model are deleted, with the parts that no other has and the rows that validation put aside of them."""

import shutil
from collections.abc import Collection
from pathlib import Path

from perennial.atomic_files import locked
from tasks.data.datasets import PARTS, SHORT, Manifest, dataset_files, read_manifests


def prune_datasets(home: Path, keep: int, needed: Collection[str]) -> int:
    """Delete all datasets but the newest `keep` and those whose fingerprints are `needed`; how many there were to delete.

    Raises DataError where a manifest cannot be read, for its parts are not known then; nothing is deleted.
    """
    with locked(home / "datasets"):
        manifests = sorted(read_manifests(home), key=lambda manifest: manifest.created_at, reverse=True)
        old = {manifest.fingerprint for manifest in manifests[keep:]} - {*needed}
        return _delete(home, manifests, old)


def delete_datasets(home: Path, fingerprints: Collection[str]) -> int:
    """Delete the datasets of these fingerprints, as `prune_datasets` does; how many there were."""
    with locked(home / "datasets"):
        return _delete(home, read_manifests(home), fingerprints)


def _delete(home: Path, manifests: Collection[Manifest], fingerprints: Collection[str]) -> int:
    """Delete datasets, and every part that no other has: with the lock held, half a file too is of a process that has died."""
    old = [manifest for manifest in manifests if manifest.fingerprint in fingerprints]
    for manifest in old:
        _delete_one(home, manifest)
    kept = {file for manifest in manifests if manifest not in old for file in dataset_files(home, manifest)}
    for file in set((home / "datasets" / PARTS).glob("*")) - kept:
        file.unlink()
    return len(old)


def _delete_one(home: Path, manifest: Manifest) -> None:
    """Delete a dataset but for its parts, the manifest first: a directory without one is no dataset."""
    short = manifest.fingerprint[:SHORT]
    (home / "datasets" / short / "manifest.json").unlink()
    shutil.rmtree(home / "datasets" / short)
    for file in (home / "quarantine").glob(f"{short}*.parquet"):
        file.unlink()
