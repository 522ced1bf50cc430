"""The dialect of a table's file: names that repeat, names of several lines."""

from pathlib import Path

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
