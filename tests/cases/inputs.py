"""The case folders beside this file (a spec and its tables), copied to where a test may change them."""

import shutil
from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent
CASES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/spec.toml")))


def copy_case(case: str, into: Path) -> Path:
    """Copy a case below `into` and return the path of its spec; its tables lie beside it, where the spec looks for them."""
    return Path(shutil.copytree(FOLDER / case, into / case)) / "spec.toml"


def edit_spec(spec: Path, **replacements: str) -> Path:
    """Replace whole lines of a spec, found by their key (`id='id = "order"'`); a key it does not have goes to its top."""
    lines = spec.read_text().splitlines()
    for key, line in replacements.items():
        at = next((at for at, found in enumerate(lines) if found.partition("=")[0].strip() == key), None)
        lines[slice(0, 0) if at is None else slice(at, at + 1)] = [line]
    spec.write_text("\n".join(lines) + "\n")
    return spec


def read_rows(spec: Path) -> pl.DataFrame:
    """The rows of a case as text from the first byte to the last (CSV), or as Parquet has them."""
    csv = spec.parent / "rows.csv"
    return pl.read_csv(csv, infer_schema=False) if csv.exists() else pl.read_parquet(spec.parent / "rows.parquet")


def write_rows(spec: Path, rows: pl.DataFrame) -> None:
    """Replace the rows of a copied case by others, in the format of its table."""
    csv = spec.parent / "rows.csv"
    return rows.write_csv(csv) if csv.exists() else rows.write_parquet(spec.parent / "rows.parquet")
