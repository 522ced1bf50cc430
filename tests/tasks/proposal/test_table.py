"""The dialect of a table's file: names that repeat, names of several lines."""

from pathlib import Path

import polars as pl
import pytest

from perennial.errors import SourceError
from tests.tasks.proposal.tables import hourly, noisy, proposed


def test_the_line_of_names_that_repeat_is_no_row(tmp_path: Path) -> None:
    table = hourly(800)
    lines = table.with_columns(y=noisy(table)).write_csv().splitlines()
    (tmp_path / "twice.csv").write_text("\n".join(["# exported", "", "at,amount,amount,y", *lines[1:]]))
    found = proposed("twice.csv", tmp_path, target="y")
    source = found.spec.sources["rows"]
    assert (source.header, source.skip_rows) == (("at", "amount", "amount_", "y"), 3)
    assert found.sample.startswith("800 rows")
    assert (found.spec.features["amount"].kind, found.spec.features["amount_"].kind) == ("numeric", "categorical")


def test_a_name_of_two_lines_is_one_name(tmp_path: Path) -> None:
    table = hourly(800)
    table.with_columns(y=noisy(table)).rename({"amount": "amount\n(EUR)"}).write_csv(tmp_path / "t.csv")
    found = proposed("t.csv", tmp_path, target="y")
    assert set(found.spec.features) == {"at_hour", "at_weekday", "amount\n(EUR)", "shop"}
    assert found.spec.sources["rows"].skip_rows == 0


@pytest.mark.parametrize("sign", ['"', "'"])
def test_a_quote_that_never_ends_is_told_or_is_none(tmp_path: Path, sign: str) -> None:
    table = hourly(8_000)  # its lines are long, so that the cell would be larger than a cell of CSV may be
    lines = table.with_columns(note=pl.lit(1_000 * "x"), y=noisy(table)).write_csv().splitlines()
    (tmp_path / "t.csv").write_text(
        "\n".join([*lines[:5], lines[5].replace(",", f",{sign}", 2).replace(f",{sign}", ",", 1), *lines[6:]])
    )
    if sign == '"':
        with pytest.raises(SourceError, match=r'cannot read t\.csv: a cell begins with " and does not end'):
            proposed("t.csv", tmp_path, target="y")
    else:
        assert proposed("t.csv", tmp_path, target="y").sample.startswith("8,000 rows")
