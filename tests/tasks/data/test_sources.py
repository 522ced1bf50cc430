"""Reading one table, wherever it is and however it is packed."""

import bz2
import gzip
import lzma
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import polars as pl
import pytest

from perennial.errors import FunctionError, SourceError
from perennial.spec_sources import SourceSpec
from tasks.data.column_types import type_columns
from tasks.data.sources import read_source
from tests.support.http_server import file_server

CSV = "when,amount,shop\n2024-01-01T00:00:00Z,1.5,north\n2024-01-01T01:00:00Z,NA,\n"


def read(base: Path, environ: dict[str, str] | None = None, **source: str) -> pl.DataFrame:
    """A source as a training gets it, with types."""
    spec = SourceSpec.model_validate(source)
    return type_columns("rows", spec, read_source("rows", spec, base, environ or {}), {}, 0.01).frame


def test_a_csv_has_its_types_and_nulls(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(CSV)
    table = read(tmp_path, path="rows.csv")
    assert table["amount"].to_list() == [1.5, None]
    assert table["shop"].to_list() == ["north", None]
    assert table.schema["when"] == pl.Datetime("us", "UTC")


def test_packed_files_are_the_files_in_them(tmp_path: Path) -> None:
    plain = tmp_path / "rows.csv"
    plain.write_text(CSV)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("readme.txt", "not a table")
        archive.writestr("rows.csv", CSV)
    (tmp_path / "rows.csv.xz").write_bytes(lzma.compress(CSV.encode()))
    (tmp_path / "rows.csv.bz2").write_bytes(bz2.compress(CSV.encode()))
    expected = read(tmp_path, path="rows.csv")
    for packed in ("rows.csv.gz", "rows.csv.xz", "rows.csv.bz2", "rows.zip"):
        assert read(tmp_path, path=packed).equals(expected)


def test_an_object_store_is_read_as_a_directory_is(tmp_path: Path) -> None:
    with fsspec.open("memory://perennial-sources/rows.csv.gz", "wb") as file:
        file.write(gzip.compress(CSV.encode()))
    (tmp_path / "rows.csv").write_text(CSV)
    assert read(tmp_path, path="memory://perennial-sources/rows.csv.gz").equals(read(tmp_path, path="rows.csv"))


def test_a_pattern_reads_its_files_in_order_of_name(tmp_path: Path) -> None:
    for number in (2, 1):
        pl.DataFrame({"amount": [float(number)]}).write_parquet(tmp_path / f"part-{number}.parquet")
    assert read(tmp_path, path="part-*.parquet")["amount"].to_list() == [1.0, 2.0]


def test_files_of_one_source_must_have_the_same_columns(tmp_path: Path) -> None:
    pl.DataFrame({"amount": [1.0]}).write_parquet(tmp_path / "part-1.parquet")
    pl.DataFrame({"price": [1.0]}).write_parquet(tmp_path / "part-2.parquet")
    with pytest.raises(SourceError, match=r"differ in \['amount', 'price'\]"):
        read(tmp_path, path="part-*.parquet")


def test_a_missing_file_is_named_with_its_whole_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source .rows.: no file at .*nothing\.csv; correct `path`"):
        read(tmp_path, path="nothing.csv")


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("not parquet")
    (tmp_path / "rows.doc").write_text("not a table")
    with pytest.raises(SourceError, match=r"cannot read rows\.parquet"):
        read(tmp_path, path="rows.parquet")
    with pytest.raises(SourceError, match=r"rows\.doc is of no known format; known endings: \.csv"):
        read(tmp_path, path="rows.doc")


def test_a_query_runs_on_the_database_that_the_environment_names(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("create table sold (amount real, shop text)")
        database.executemany("insert into sold values (?, ?)", [(None, "north"), (2.5, "east")])
    database.close()
    url = {"SALES_DB": f"sqlite:///{tmp_path}/rows.db"}
    table = read(tmp_path, url, query="select * from sold", connection="SALES_DB")
    assert table.rows() == [(None, "north"), (2.5, "east")]
    with pytest.raises(SourceError, match="set SALES_DB to the SQLAlchemy URL"):
        read(tmp_path, query="select * from sold", connection="SALES_DB")
    with pytest.raises(SourceError, match=r"cannot read the query on SALES_DB: .*no such table: absent"):
        read(tmp_path, url, query="select * from absent", connection="SALES_DB")


def test_a_loader_returns_a_frame_lazy_or_not(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import polars as pl\n"
        "def eager(): return pl.DataFrame({'amount': [1.0]})\n"
        "def lazy(): return eager().lazy()\n"
        "def wrong(): return 'a table'\n"
    )
    assert read(tmp_path, loader="own.py:lazy").equals(read(tmp_path, loader="own.py:eager"))
    with pytest.raises(FunctionError, match=r"own\.py:wrong must return a polars frame; it returned str"):
        read(tmp_path, loader="own.py:wrong")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of the files in `tmp_path`."""
    with file_server(tmp_path) as url:
        yield url


def test_a_table_is_read_from_the_web(tmp_path: Path, web: str) -> None:
    (tmp_path / "rows.csv").write_text(CSV)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    pl.read_csv(CSV.encode()).write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path, path=f"{web}/rows.csv").equals(read(tmp_path, path="rows.csv"))
    assert read(tmp_path, path=f"{web}/rows.csv.gz").equals(read(tmp_path, path="rows.csv"))
    assert read(tmp_path, path=f"{web}/rows.parquet").equals(read(tmp_path, path="rows.parquet"))
    assert read(tmp_path, path=f"{web}/rows.csv.gz?sig=a.b").equals(read(tmp_path, path="rows.csv")), "a query is no ending"
    with pytest.raises(SourceError, match=r"cannot read http://.*/nothing.csv"):
        read(tmp_path, path=f"{web}/nothing.csv")


def test_a_parquet_file_on_disk_is_read_in_one_piece(tmp_path: Path) -> None:
    """Pieces would all be copied once a column is added, with the table in memory twice meanwhile."""
    table = pl.DataFrame({"n": range(1_000), "shop": [None, "north"] * 500, "on": [[1], None] * 500})
    table.write_parquet(tmp_path / "rows.parquet", row_group_size=100)
    source = SourceSpec(path="rows.parquet")
    frame = read_source("rows", source, tmp_path, {}).frame
    assert frame.n_chunks("all") == [1, 1, 1]
    assert frame.equals(table)
    assert read_source("rows", source, tmp_path, {}, 150).frame.equals(table.head(150))
