"""Pruning: datasets of a model are deleted, with the parts that no other has and the rows that validation put aside of them."""

import shutil
from collections.abc import Collection
from pathlib import Path

from tasks.data.datasets import PARTS, SHORT, Manifest, locked, part_file, read_manifest


def prune_datasets(home: Path, keep: int, needed: Collection[str]) -> int:
    """Delete all datasets but the newest `keep` and those whose fingerprints are `needed`; how many there were to delete.

    Raises DataError where a manifest cannot be read, for its parts are not known then; nothing is deleted.
    """
    with locked(home):
        manifests = [read_manifest(path.parent) for path in (home / "datasets").glob("*/manifest.json")]
        manifests.sort(key=lambda manifest: manifest.created_at, reverse=True)
        old = [manifest for manifest in manifests[keep:] if manifest.fingerprint not in needed]
        for manifest in old:
            _delete(home, manifest)
        kept = {part_file(home, part) for manifest in manifests if manifest not in old for part in manifest.parts}
        # With the lock held, a file that no manifest names, half of one too, is of a process that has died.
        for file in set((home / "datasets" / PARTS).glob("*")) - kept:
            file.unlink()
        return len(old)


def _delete(home: Path, manifest: Manifest) -> None:
    """Delete a dataset but for its parts, the manifest first: a directory without one is no dataset."""
    short = manifest.fingerprint[:SHORT]
    (home / "datasets" / short / "manifest.json").unlink()
    shutil.rmtree(home / "datasets" / short)
    for file in (home / "quarantine").glob(f"{short}*.parquet"):
        file.unlink()
