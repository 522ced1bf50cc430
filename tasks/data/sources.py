"""Sources: read one table that a spec names, whatever its origin, into a polars frame.

Nothing is joined, derived or checked here: a reader answers with the table as it stands, or says why it cannot.
"""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable, Mapping
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import polars as pl

from perennial.errors import FunctionError, PerennialError, SourceError
from perennial.spec import SourceSpec
from perennial.user_functions import load_function

PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
"""Endings of single compressed files, and what unpacks them."""

PATIENCE = 60.0
"""Seconds a web server may stay silent."""

_CSV, _PARQUET = (".csv", ".tsv"), (".parquet", ".pq")
_LOCAL = "file://"


def read_source(name: str, source: SourceSpec, base: Path, environ: Mapping[str, str]) -> pl.DataFrame:
    """Read the table `name`; paths are relative to `base`, the database's URL is a variable of `environ`.

    Raises SourceError naming the source, where it was looked for and what to do; FunctionError for a loader's mistake.
    """
    if source.path is not None:
        return _guarded(name, source.path, lambda: _read_files(name, source, base))
    if source.query is not None:
        return _guarded(name, f"the database in {source.connection}", lambda: _read_query(name, source, environ))
    return _load(name, str(source.loader), base)


def read_table(path: str, nulls: tuple[str, ...] = ("", "NA", "NULL")) -> pl.DataFrame:
    """Read a table by its path or URL alone; raises SourceError."""
    return read_source(path, SourceSpec(path=path, nulls=nulls), Path.cwd(), {})


def _guarded(name: str, where: str, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return read()
    except PerennialError:
        raise
    except Exception as error:  # every driver and protocol has its own errors
        raise SourceError(f"source {name!r}: cannot read {where}: {type(error).__name__}: {error}") from error


def _read_files(name: str, source: SourceSpec, base: Path) -> pl.DataFrame:
    path = str(source.path).removeprefix(_LOCAL)
    if "://" in path:
        return _read_remote(name, path, source.nulls)
    found = sorted(glob(str(base / path)))  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
    if not found:
        raise SourceError(f"source {name!r}: no file at {base / path}; correct `path` in the spec or put the file there")
    return _stacked(name, [_read_local(name, Path(file), source.nulls) for file in found])


def _read_local(name: str, path: Path, nulls: tuple[str, ...]) -> pl.DataFrame:
    if path.suffix == ".zip":
        return _read_zip(name, path, nulls)
    if path.suffix in PACKED:
        return _parse(name, path.stem, BytesIO(PACKED[path.suffix](path.read_bytes())), nulls)
    return _parse(name, path.name, path, nulls)


def _read_zip(name: str, source: Path | IO[bytes], nulls: tuple[str, ...]) -> pl.DataFrame:
    with zipfile.ZipFile(source) as archive:
        members = [one for one in sorted(archive.namelist()) if one.lower().endswith((*_CSV, *_PARQUET))]
        if not members:
            raise SourceError(f"source {name!r}: the zip file holds no CSV or Parquet file, only {archive.namelist()[:5]}")
        return _stacked(name, [_parse(name, one, BytesIO(archive.read(one)), nulls) for one in members])


def _read_remote(name: str, url: str, nulls: tuple[str, ...]) -> pl.DataFrame:
    """Objects of S3, GCS and Azure go through polars' own readers; the web, and packed objects, as bytes."""
    suffix, web = Path(url).suffix, url.startswith(("http://", "https://"))
    if suffix in _PARQUET and not web:
        return pl.scan_parquet(url).collect()
    if suffix in _CSV and not web:
        return pl.scan_csv(url, **_csv_options(nulls, url)).collect()
    content = _from_web(url) if web else _from_store(url)
    if suffix == ".zip":
        return _read_zip(name, BytesIO(content), nulls)
    if suffix in PACKED:
        return _parse(name, Path(url).stem, BytesIO(PACKED[suffix](content)), nulls)
    return _parse(name, Path(url).name, BytesIO(content), nulls)


def _from_web(url: str) -> bytes:
    import httpx

    return httpx.get(url, follow_redirects=True, timeout=PATIENCE).raise_for_status().content


def _from_store(url: str) -> bytes:
    import fsspec

    with fsspec.open(url, "rb") as stream:
        content: bytes = stream.read()
    return content


def _parse(name: str, file: str, content: Path | IO[bytes], nulls: tuple[str, ...]) -> pl.DataFrame:
    lowered = file.lower()
    if lowered.endswith(_PARQUET):
        return pl.read_parquet(content)
    if lowered.endswith(_CSV):
        return pl.read_csv(content, **_csv_options(nulls, lowered))
    known = ", ".join((*_CSV, *_PARQUET, ".zip", *PACKED))
    raise SourceError(f"source {name!r}: {file} is of no known format; known endings: {known}")


def _csv_options(nulls: tuple[str, ...], file: str) -> dict[str, Any]:
    # Types are inferred from the whole file: a text in row 20,000 must not end an hour's training.
    separator = "\t" if file.endswith(".tsv") else ","
    return {"null_values": list(nulls), "try_parse_dates": True, "infer_schema_length": None, "separator": separator}


def _stacked(name: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Files of one source, one above the other; columns are matched by name and numbers widened where files differ."""
    if len({tuple(frame.columns) for frame in frames}) > 1:
        odd = next(frame for frame in frames if frame.columns != frames[0].columns)
        difference = sorted(set(odd.columns) ^ set(frames[0].columns)) or "their order"
        raise SourceError(f"source {name!r}: its files do not have the same columns; they differ in {difference}")
    return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]


def _read_query(name: str, source: SourceSpec, environ: Mapping[str, str]) -> pl.DataFrame:
    import sqlalchemy

    address = environ.get(str(source.connection))
    if not address:
        raise SourceError(f"source {name!r}: set {source.connection} to the SQLAlchemy URL of its database")
    engine = sqlalchemy.create_engine(address)
    try:
        with engine.connect() as connection:
            return pl.read_database(str(source.query), connection, infer_schema_length=None)
    finally:
        engine.dispose()


def _load(name: str, reference: str, base: Path) -> pl.DataFrame:
    table = load_function(reference, base)()
    frame = table.collect() if isinstance(table, pl.LazyFrame) else table
    if not isinstance(frame, pl.DataFrame):
        raise FunctionError(f"source {name!r}: {reference} must return a polars frame; it returned {type(table).__name__}")
    return frame
