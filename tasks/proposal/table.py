"""Reading a table of which nothing is known: how a CSV file is written, whether it has a header, and which texts mean null.

A sample is read: the first rows of each file. What was found is returned as keys of a source, each with its reason.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from perennial.errors import SourceError
from perennial.schema import free_name
from perennial.spec_sources import SourceSpec
from tasks.data.column_types import RawTable, type_columns
from tasks.data.csv_dialect import encoding_of, propose, read_rows
from tasks.data.numbers import NUMBERISH, read_numbers
from tasks.data.sources import csv_head, read_source
from tasks.proposal.spec_text import Key

SAMPLE = 50_000  # rows read of each file
HEAD = 2**18  # bytes of the first file by which its dialect is told
ODD = 0.01  # share of odd values in a column, as `checks.max_odd_values` has it

_NULLS = ("?", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "<NA>", "\\N")  # mean null in whatever column they stand
_MAYBE_NULLS = (*_NULLS, "-", "--", ".", "None", "none", "missing", "unknown")  # mean null among numbers
_QUERY = re.compile(r"\s*(select|with)\s", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A sample of a table: `frame` has types as far as the values show them, `raw` is as it was read; `keys` name the source."""

    name: str
    source: SourceSpec
    keys: tuple[Key, ...]
    raw: RawTable
    frame: pl.DataFrame
    base: Path

    @property
    def cut(self) -> bool:
        return self.raw.is_cut(SAMPLE)

    def count(self, environ: Mapping[str, str]) -> int:
        """The rows of the whole table."""
        return read_source(self.name, self.source, self.base, environ).frame.height if self.cut else self.frame.height


def read_table(table: str, connection: str | None, base: Path, environ: Mapping[str, str]) -> Table:
    """Read a sample of a file, glob, URL or SQL query as a source of a spec in the directory `base`; raises SourceError."""
    name = "rows"
    keys = list(_origin(table, connection, base))
    source = _source(keys)
    if source.path is not None and (head := csv_head(name, source.path, base, HEAD)) is not None:
        keys += _dialect(source, *head)
        source = _source(keys)
        raw = read_source(name, source, base, environ, SAMPLE)
        if (nulls := _null_key(raw.frame, source)) is not None:
            keys.append(nulls)
            source = _source(keys)
    raw = read_source(name, source, base, environ, SAMPLE)
    if raw.frame.is_empty():
        raise SourceError(f"{table} has no rows: there is nothing to learn a spec from")
    plain = raw.frame.select(pl.exclude(pl.Object)).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    raw = RawTable(plain, raw.untyped, raw.files)
    return Table(name, source, tuple(keys), raw, type_columns(name, source, raw, {}, ODD).frame, base)


def _source(keys: list[Key]) -> SourceSpec:
    return SourceSpec.model_validate({key.name: key.value for key in keys})


def _origin(table: str, connection: str | None, base: Path) -> Iterator[Key]:
    if connection is not None or _QUERY.match(table):
        if connection is None:
            raise SourceError(f"{table!r:.80} is a query: give --connection, the environment variable with the database's URL")
        yield Key("query", table, "run anew at each training; order it by time")
        yield Key("connection", connection, "the environment variable with the SQLAlchemy URL")
    elif "://" in table:
        yield Key("path", table)
    else:
        file = os.path.relpath(Path(table).expanduser(), base) if not Path(table).is_absolute() else _near(Path(table), base)
        yield Key("path", Path(file).as_posix(), "relative to this file" if not Path(file).is_absolute() else "")


def _near(file: Path, base: Path) -> str:
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)


def _dialect(source: SourceSpec, file: str, head: bytes) -> Iterator[Key]:
    """How a CSV file is written, where that differs from what a source says by default."""
    usual = "\t" if file.lower().endswith(".tsv") else ","
    found = propose(head, source, usual)
    reasons = {
        "separator": "what separates the same number of cells in nearly every line",
        "decimal": "the numbers are written with it",
        "thousands": "the numbers are written with it",
        "encoding": "the bytes are no utf-8",
        "comment": "the first lines begin with it",
        "skip_rows": "lines before the header have fewer cells",
    }
    yield from (Key(name, value, reasons.get(name, "by its first lines")) for name, value in found.items())
    rows, after = _first_rows(head, {**source.model_dump(), **found}, found.get("separator", usual))
    if rows:
        yield from _header(rows, after)


def _first_rows(head: bytes, keys: Mapping[str, object], separator: str) -> tuple[list[list[str]], int]:
    """The first rows, as cells, and how many lines the file has up to the end of the first of them."""
    text = head.decode(encoding_of(head, str(keys["encoding"])), errors="replace").removeprefix("\ufeff")
    comment, skipped = keys["comment"], int(str(keys["skip_rows"]))
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if number > skipped and line]
    kept = [(number, line) for number, line in numbered if not (comment and line.startswith(str(comment)))][:200]
    rows = list(read_rows((line for _, line in kept), separator, str(keys["quote"])))
    return [row for row, _ in rows], kept[rows[0][1] - 1][0] if rows else 0


def _header(rows: list[list[str]], after: int) -> Iterator[Key]:
    """Names of the columns where the first line is no header, or where names repeat or are empty; none where it will do."""
    first, *rest = rows
    columns = [[row[place] for row in rest if place < len(row) and row[place]] for place in range(len(first))]
    numbers = [bool(cells) and all(re.search(NUMBERISH, cell) for cell in cells) for cells in columns]
    named = [bool(re.search(NUMBERISH, cell)) for cell in first]
    if any(number and cell for number, cell in zip(numbers, named, strict=True)) and not any(
        number and cell and not is_number for number, cell, is_number in zip(numbers, first, named, strict=True)
    ):
        names = [f"column_{place + 1}" for place in range(len(first))]
        yield Key("header", names, "the first line has numbers where the lines below have numbers: it is a row, not a header")
    elif (len(set(first)) < len(first) or not all(first)) and not _is_index(first):
        names = []
        for place, cell in enumerate(first):
            names.append(free_name(cell or f"column_{place + 1}", names))
        yield Key("header", names, "some names in the file repeat or are empty")
        yield Key("skip_rows", after, "the file's own header ends there")


def _is_index(first: list[str]) -> bool:
    """Whether the one name that is empty is that of a data frame's index."""
    return first[0] == "" and len(set(first)) == len(first)


def _null_key(frame: pl.DataFrame, source: SourceSpec) -> Key | None:
    """Texts that mean null: some of them anywhere, others in a column whose other values are numbers."""
    found: set[str] = set()
    for values in frame.iter_columns():
        texts = values.drop_nulls()
        distinct = set(texts.filter(texts.is_in(_MAYBE_NULLS)).unique())
        if distinct and not _numbers(texts.filter(~texts.is_in(_MAYBE_NULLS)), source):
            distinct &= set(_NULLS)
        found |= distinct
    if not found:
        return None
    shown = ", ".join(sorted(found))
    return Key("nulls", [*source.nulls, *sorted(found)], f"{shown}: stands where a value is missing")


def _numbers(texts: pl.Series, source: SourceSpec) -> bool:
    return texts.len() > 0 and read_numbers(texts, source).null_count() <= ODD * texts.len()
