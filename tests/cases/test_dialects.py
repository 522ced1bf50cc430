"""CSV files of other houses: read as the spec says, or refused with the lines that would read them."""

from pathlib import Path

import polars as pl
import pytest

from perennial.errors import DataError, SourceError
from tests.cases.inputs import copy_case
from tests.cases.test_kinds import read

LINES = [
    f"r{row},2026-09-{1 + row // 24:02d}T{row % 24:02d}:00:00,{row / 8},{'café' if row % 2 else 'thé'},{row % 2}"
    for row in range(400)
]


def write(tmp_path: Path, content: bytes, *keys: str) -> Path:
    """A copy of the case whose rows are these bytes, with more keys of its source."""
    spec = copy_case("one-text-among-numbers", tmp_path)
    (spec.parent / "rows.csv").write_bytes(content)
    spec.write_text("".join(f"sources.rows.{key}\n" for key in keys) + spec.read_text())
    return spec


def plain() -> str:
    return "\n".join(["rid,ts,x,c,y", *LINES]) + "\n"


def decimal_commas() -> str:
    return plain().replace(",", ";").replace(".", ",")


DIALECTS: dict[str, tuple[bytes, list[str]]] = {
    "semicolons": (plain().replace(",", ";").encode(), ['separator = ";"']),
    "tabs": (plain().replace(",", "\t").encode(), ['separator = "\\t"']),
    "bars": (plain().replace(",", "|").encode(), ['separator = "|"']),
    "decimal commas": (decimal_commas().encode(), ['separator = ";"', 'decimal = ","']),
    "cp1252": (plain().encode("cp1252"), ['encoding = "cp1252"']),
    "cp1252 and semicolons": (decimal_commas().encode("cp1252"), ['encoding = "cp1252"', 'separator = ";"', 'decimal = ","']),
    "utf-16": (plain().encode("utf-16"), ['encoding = "utf-16"']),
    "comments": (("# made by a machine\n" + plain()).encode(), ['comment = "#"']),
    "a title": (("Rentals\n" + plain()).encode(), ["skip_rows = 1"]),
    "a title and blank lines": (("Rentals\nof the year\n\n" + plain()).encode(), ["skip_rows = 3"]),
    "utf-16 without a mark": (plain().encode("utf-16-le"), ['encoding = "utf-16-le"']),
    "a lone quote": (plain().replace("r7,", '"r7,').encode(), ['quote = ""']),
    "single quotes": (plain().replace("café", "'a, b'").encode(), ['quote = "\'"']),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_message_proposes_the_dialect_and_the_proposal_reads_the_file(tmp_path: Path, dialect: str) -> None:
    content, keys = DIALECTS[dialect]
    with pytest.raises(SourceError) as refused:
        read(write(tmp_path, content))
    message = str(refused.value)
    assert "source 'rows': cannot read rows.csv" in message
    assert message.partition("write in [sources.rows]:")[2].split("\n  ")[1:] == keys
    frame = read(write(tmp_path / "again", content, *keys)).frame
    assert frame.columns == ["rid", "ts", "x", "c", "y"]
    assert frame["x"].to_list() == [row / 8 for row in range(400)]
    assert frame["c"].unique().sort().to_list() == (["a, b", "thé"] if dialect == "single quotes" else ["café", "thé"])


def test_a_byte_that_is_not_utf_8_is_named_with_its_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 2, column 30 holds the byte 0xe9; it seems to be cp1252"):
        read(write(tmp_path, plain().encode("cp1252")))


def test_thousands_and_decimals_are_proposed_together(tmp_path: Path) -> None:
    for number, thousands in enumerate((".", " ", "'")):
        content = decimal_commas().replace(";1,0;", f";12{thousands}570,50;").encode()
        keys = ['separator = ";"', 'decimal = ","', f'thousands = "{thousands}"']
        with pytest.raises(SourceError) as refused:
            read(write(tmp_path / f"{number}", content))
        assert str(refused.value).endswith("".join(f"\n  {key}" for key in keys))
        assert read(write(tmp_path / f"{number}-mended", content, *keys)).frame["x"][8] == 12_570.5


@pytest.mark.parametrize(
    ("line", "said"),
    [("r7,a,b,c,d,e", "line 402 has 6 cells, the header 5"), ("r7,2026-09-01,1,5,thé,0", "line 402 has 6 cells, the header 5")],
)
def test_a_line_of_too_many_cells_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read(write(tmp_path, f"{plain()}{line}\n".encode()))


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    assert read(write(tmp_path, plain().replace("\n", "\r").encode())).frame.height == 400


def test_a_file_without_a_header_is_read_by_the_names_in_the_spec(tmp_path: Path) -> None:
    content = plain().partition("\n")[2].replace(",0.0,", ",0,").encode()
    with pytest.raises(SourceError, match=r'(?s)has .0. more than once.*header = \["column_1", "column_2"'):
        read(write(tmp_path, content))
    assert read(write(tmp_path / "again", content, 'header = ["rid", "ts", "x", "c", "y"]')).frame.height == 400
    with pytest.raises(SourceError, match=r"`header` has 2 names, but rows\.csv has 5 columns"):
        read(write(tmp_path / "short", content, 'header = ["rid", "ts"]'))


@pytest.mark.parametrize(("text", "number"), [("{}%", 0.01), ("${}", 1.0), (" {} ", 1.0), ("{} €", 1.0)])
def test_signs_around_numbers_are_cleaned_by_the_line_that_the_message_has(tmp_path: Path, text: str, number: float) -> None:
    rows = [line.split(",") for line in LINES]
    content = "\n".join(["rid,ts,x,c,y", *(",".join([*row[:2], text.format(row[2]), *row[3:]]) for row in rows)]).encode()
    with pytest.raises(DataError, match="to make a number of it, write derive") as refused:
        read(write(tmp_path, content))
    spec = write(tmp_path / "again", content)
    spec.write_text(f"{str(refused.value).partition('write ')[2]}\n{spec.read_text()}")
    assert read(spec).frame["x"].to_list() == pytest.approx([row / 8 * number for row in range(400)])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, plain().encode("utf-8-sig"))).frame.columns[0] == "rid"


def test_a_header_in_another_encoding_is_refused_as_the_cells_are(tmp_path: Path) -> None:
    content = plain().replace("rid,", "né,").replace("café", "a").replace("thé", "b").encode("cp1252")
    with pytest.raises(SourceError, match='encoding = "cp1252"'):
        read(write(tmp_path, content))


def test_thousands_are_read_where_they_stand_right_only(tmp_path: Path) -> None:
    content = plain().replace(",", ";").replace(";1.0;", ";1,234.5;").replace(";2.0;", ";1,2;").encode()
    table = read(write(tmp_path, content, 'separator = ";"', 'thousands = ","'))
    assert table.frame["x"][8] == 1234.5
    assert table.odd["text"].to_list() == ["1,2"]


def test_a_point_among_decimal_commas_is_no_number(tmp_path: Path) -> None:
    content = decimal_commas().replace(";1,0;", ";1.5;").encode()
    assert read(write(tmp_path, content, 'separator = ";"', 'decimal = ","')).odd["text"].to_list() == ["1.5"]


def test_decimal_commas_that_are_not_declared_are_proposed(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r'(?s)say what it is.*decimal = ","'):
        read(write(tmp_path, decimal_commas().encode(), 'separator = ";"'))


def test_a_name_twice_in_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the header of rows\.csv has 'x' more than once"):
        read(write(tmp_path, plain().replace("rid,ts,x,c,y", "rid,ts,x,x,y").encode()))


def test_a_header_in_the_middle_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"row 401 of rows\.csv is its header again"):
        read(write(tmp_path, (plain() + plain()).encode()))


def test_an_unknown_encoding_is_refused_by_the_spec(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no such encoding; write utf-8, cp1252"):
        read(write(tmp_path, plain().encode(), 'encoding = "latin-99"'))


def test_columns_named_like_nulls_keep_their_names(tmp_path: Path) -> None:
    frame = read(write(tmp_path, plain().replace("rid,ts,x,c,y", "rid,ts,x,c,y,NA").encode())).frame
    assert frame.columns[-1] == "NA"
    assert frame.schema["x"] == pl.Float64
