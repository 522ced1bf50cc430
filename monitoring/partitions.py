"""Rows in Parquet, one folder per UTC date, each row exactly once by its key.

    date=YYYY-MM-DD/part-00000.parquet

The files are in a directory or an object store (`monitoring.part_files`). One writer at a time (the monitor's lease), any
number of readers. A file appears whole or not at all. The newest file of a date that has the same columns is replaced by itself
plus the new rows until it is large enough: few files, however small the writes, and a reader sees the old file or the new one.

The columns may change: rows of before stay in their files as they are. A reader gets null for a column that a file lacks, and the
value in the type it asks for where a file has another: a conversion that would lose it gives null.
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from monitoring.part_files import PartFiles, day_folder
from perennial.base import FORMAT, refuse_newer_format
from perennial.errors import SET_ASIDE, ArchiveError
from perennial.schema import float_text

FORMAT_KEY = "perennial.format"
"""In the metadata of a part: the version of its format."""

PART_ROWS = 20_000
"""Rows from which a file is left alone; rewriting fewer takes about 20 ms."""

CACHED_DAYS = 64
"""Dates whose keys stay in memory: a stream runs along the calendar, so old dates are read seldom."""

_DAY, _PLACE = "_day", "_place"


class Partitions:
    """One table in folders by the date of `time`; rows of one `key` whose times are `within` each other are the same row."""

    def __init__(
        self, files: PartFiles, schema: pl.Schema, key: tuple[str, ...], time: str, within: timedelta = timedelta()
    ) -> None:
        self._files, self.folder = files, files.folder
        self.schema = schema
        self._key, self._time, self._within = list(key), time, within
        self._keys: OrderedDict[date, pl.DataFrame] = OrderedDict()
        self._known_columns: dict[Path, dict[str, pl.DataType]] = {}

    def append(self, rows: pl.DataFrame) -> int:
        """Write the rows that are not there yet, of rows that come twice the first; returns how many. Raises ArchiveError."""
        if rows.is_empty():
            return 0
        fresh = self._fresh(rows).with_columns(pl.col(self._time).dt.date().alias(_DAY))
        for (date_,), part in sorted(fresh.partition_by(_DAY, as_dict=True, include_key=False).items()):
            self._write(date_, part)
        return fresh.height

    def scan(self, since: date | None = None, until: date | None = None) -> pl.LazyFrame:
        """All rows of the dates since <= date <= until. Columns a file lacks are null, foreign ones are left out."""
        return self._read(self._files.parts_of(self.days(since, until)), self.schema)

    def days(self, since: date | None = None, until: date | None = None) -> tuple[date, ...]:
        """Dates that have rows, ascending."""
        return tuple(sorted(day for day in self._files.days() if (since or date.min) <= day <= (until or date.max)))

    def keep_only(self, values: pl.DataFrame, name: str, since: date | None, until: date) -> int:
        """Delete the rows of some dates whose `name` is not among the values; returns how many. Raises ArchiveError."""
        dropped = 0
        for day in self.days(since, until):
            for path in self._files.parts(day):
                rows = collect(pl.scan_parquet(path, hive_partitioning=False), path)
                kept = rows.join(values, on=name, how="semi", maintain_order="left")
                if kept.height < rows.height:
                    self._replace(path, kept)
                    dropped += rows.height - kept.height
            self._keys.pop(day, None)
        return dropped

    def _replace(self, path: Path, rows: pl.DataFrame) -> None:
        """Replace a part by these rows of it, or remove it where none is left, and its date's directory with the last one."""
        if rows.height:
            self._files.replace(path, part_content(rows))
        else:
            self._files.remove(path)

    def _fresh(self, rows: pl.DataFrame) -> pl.DataFrame:
        time = pl.col(self._time)
        edges = (time - self._within, time + self._within) if self._within else (time,)
        days = pl.concat([rows.select(edge.dt.date()).to_series() for edge in edges]).unique()
        days = days.filter(days.is_between(date.min, date.max)).sort()
        new = rows.select(*self._key, self._time, pl.int_range(pl.len()).alias(_PLACE))
        known = pl.concat([self._keys_of(day) for day in days]).join(new, on=self._key, how="semi", nulls_equal=True)
        ordered = pl.concat([known.with_columns(pl.lit(-1, pl.Int64).alias(_PLACE)), new]).sort(*self._key, self._time, _PLACE)
        alike = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in self._key)
        follows = (alike & (time - time.shift(1) <= self._within)).fill_null(value=False)
        precedes = (follows & (pl.col(_PLACE) < 0)).shift(-1, fill_value=False)  # one that is there already comes soon after
        fresh = ordered.filter(~follows & ~precedes & (pl.col(_PLACE) >= 0))[_PLACE].sort()
        return rows[fresh]

    def _keys_of(self, day: date) -> pl.DataFrame:
        if day not in self._keys:
            kept = pl.Schema({name: self.schema[name] for name in (*self._key, self._time)})
            self._keys[day] = collect(self._read(self._files.parts(day), kept), self.folder)
            if len(self._keys) > CACHED_DAYS:
                self._keys.popitem(last=False)
        self._keys.move_to_end(day)
        return self._keys[day]

    def _write(self, day: date, rows: pl.DataFrame) -> None:
        known = self._keys_of(day)
        parts = self._files.parts(day)
        path, whole = self._grown(day, parts, rows)
        write = self._files.replace if path in parts else self._files.create
        write(path, part_content(whole))
        self._keys[day] = pl.concat([known, rows.select(*self._key, self._time)])

    def _grown(self, day: date, parts: list[Path], rows: pl.DataFrame) -> tuple[Path, pl.DataFrame]:
        """The file to write and its whole content: the newest one if it is small, else a new one."""
        alike = next((part for part in reversed(parts) if self._columns(part) == rows.schema), None)
        if alike and (tail := collect(self._read([alike], rows.schema), alike)).height < PART_ROWS:
            return alike, pl.concat([tail, rows.select(tail.columns)])
        # After the last number, not the count of parts: a part may have been deleted, and its successor is not written over.
        number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 0
        return self.folder / day_folder(day) / f"part-{number:05d}.parquet", rows

    def _read(self, paths: list[Path], schema: pl.Schema) -> pl.LazyFrame:
        if not paths:
            return pl.LazyFrame(schema=schema)
        others = [path for path in paths if _misfits(self._columns(path), schema)]
        alike = [path for path in paths if path not in others]
        casts = pl.ScanCastOptions(integer_cast="allow-float")
        lenient: Any = {"missing_columns": "insert", "extra_columns": "ignore", "cast_options": casts}
        whole = [pl.scan_parquet(alike, schema=schema, hive_partitioning=False, **lenient)] if alike else []
        return pl.concat([*whole, *(_converted(path, self._columns(path), schema) for path in others)])

    def _columns(self, path: Path) -> dict[str, pl.DataType]:
        """The columns of a part, which never change; none of one that cannot be read, so that reading it says so.

        Raises NewerFormat.
        """
        if path not in self._known_columns:
            try:
                found = dict(pl.read_parquet_schema(path))
                number = pl.read_parquet_metadata(path).get(FORMAT_KEY, "1")  # the first release wrote none
            except (OSError, pl.exceptions.PolarsError):
                return {}
            refuse_newer_format(int(number) if number.isdigit() else None, str(path))
            self._known_columns[path] = found
        return self._known_columns[path]


def part_content(rows: pl.DataFrame) -> bytes:
    """A part's bytes. Through memory: a failed write is then a plain OSError of ours, with its errno."""
    buffer = BytesIO()
    rows.write_parquet(buffer, compression="zstd", compression_level=1, metadata={FORMAT_KEY: str(FORMAT)})
    return buffer.getvalue()


def _misfits(found: Mapping[str, pl.DataType], wanted: pl.Schema) -> list[str]:
    """Columns that a file has in another type; whole numbers are read as floats by polars itself."""
    pairs = ((name, found[name], dtype) for name, dtype in wanted.items() if name in found)
    return [name for name, one, dtype in pairs if one != dtype and not (one.is_integer() and dtype.is_float())]


def _converted(path: Path, found: Mapping[str, pl.DataType], wanted: pl.Schema) -> pl.LazyFrame:
    """A file in the types that are wanted; numbers become the texts that a category of them has."""
    columns = []
    for name, dtype in wanted.items():
        column = pl.col(name) if name in found else pl.lit(None)
        if name in found and found[name].is_float() and dtype == pl.String:
            column = float_text(column)
        columns.append((column if _can_cast(found.get(name), dtype) else pl.lit(None)).cast(dtype, strict=False).alias(name))
    return pl.scan_parquet(path, hive_partitioning=False).select(columns)


def _can_cast(found: pl.DataType | None, wanted: pl.DataType) -> bool:
    try:
        return pl.Series([], dtype=found).cast(wanted, strict=False).dtype == wanted
    except pl.exceptions.PolarsError:
        return False


def collect(rows: pl.LazyFrame, where: Path) -> pl.DataFrame:
    """Read now; raises ArchiveError naming the file, or the folder where it could be any, when it cannot be read."""
    try:
        return rows.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        files = [where] if where.is_file() else sorted(where.rglob("*.parquet"))
        broken = next((path for path in files if not _is_readable(path)), None)
        fix = f"restore it from a backup, or lose its rows: {SET_ASIDE}" if broken else "does the spec fit it?"
        raise ArchiveError(f"{broken or where} cannot be read ({error}): {fix}") from error


def _is_readable(path: Path) -> bool:
    try:
        pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True
