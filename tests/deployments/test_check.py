"""What `perennial check` shows of a spec and a sample of its sources."""

import io
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from deployments.check import SAMPLE, check_spec, describe_spec
from perennial.errors import ChecksFailed, DataError, PerennialError
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.support.bike_sharing import HOURS, VARIABLE, needs_hours
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "check.md").read_text()


def shown(spec: Path, environ: dict[str, str] | None = None) -> str:
    """What the command prints on a terminal of 130 columns."""
    console = Console(width=130, file=io.StringIO(), highlight=False)
    for part in check_spec(spec, environ or {}, datetime.now(UTC)):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip()


def test_the_page_shows_what_is_printed_for_the_flights():
    block = re.search(r"examples/flights\.toml\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert block is not None
    assert shown(ROOT / "examples" / "flights.toml") == block[1]


@needs_hours
def test_the_page_shows_what_is_printed_for_the_bicycles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, str(HOURS))
    assert shown(ROOT / "examples" / "bike_sharing.toml", dict(os.environ)) in PAGE


def test_each_column_has_its_type_kind_nulls_distinct_values_examples_and_odd_values(tmp_path: Path):
    lines = {line.split()[0]: line for line in shown(copy_case("one-text-among-numbers", tmp_path)).splitlines() if line.strip()}
    assert re.search(r"x +Float64 +numeric +1 +396 +0\.1257, -0\.1321, 0\.6404 +1: 'n/a'$", lines["x"])
    assert re.search(r"c +String +categorical +0 +4 +'east', 'north', 'west'$", lines["c"])
    assert re.search(r"rid +String +id +0 +400", lines["rid"])
    assert re.search(r"ts +Datetime\('us', 'UTC'\) +event time +0 +400", lines["ts"])
    assert re.search(r"y +Int64 +target +0 +2 +0, 1$", lines["y"])


def test_what_a_training_would_refuse_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="'01/02/2019' is 2 January 2019 or 1 February 2019"):
        shown(copy_case("us-dates-early-in-month", tmp_path))
    with pytest.raises(DataError, match=r"only 0\.0% of 400 rows have a partner"):
        shown(copy_case("join-matches-nothing", tmp_path))
    spec = edit_spec(copy_case("zip-codes", tmp_path), c='cc = "categorical"')
    with pytest.raises(ChecksFailed, match="cc: is not in the table; did you mean 'c'"):
        shown(spec)
    assert not list(tmp_path.rglob("*.parquet")), "nothing is written"


def test_a_sample_of_a_long_file_is_read(tmp_path: Path):
    spec = copy_case("one-text-among-numbers", tmp_path)
    rows = read_rows(spec)
    many = rows.sample(3 * SAMPLE, with_replacement=True, seed=1).with_columns(rid=range_ids(3 * SAMPLE))
    write_rows(spec, many)
    assert f"{SAMPLE:,} rows read" in shown(spec)


def range_ids(count: int):
    import polars as pl

    return pl.format("r{}", pl.int_range(count))


def test_a_source_that_cannot_be_reached_is_an_error_after_the_account_of_the_spec(tmp_path: Path):
    spec = copy_case("zip-codes", tmp_path)
    (spec.parent / "rows.csv").unlink()
    parts = check_spec(spec, {}, datetime.now(UTC))
    assert "zip-codes (binary)" in str(next(parts))
    with pytest.raises(PerennialError, match="source 'rows': no file at"):
        next(parts)


def test_a_table_that_is_too_slow_for_its_spec_is_told_what_never_happens_and_what_to_set(tmp_path: Path):
    spec = copy_case("zip-codes", tmp_path)
    spec.write_text(re.sub(r"(?<!checks\.)min_rows = \d+", "min_rows = 500", spec.read_text()))
    lines = [line for line in shown(spec).splitlines() if "NEVER" in line]
    assert [line.split()[0] for line in lines] == ["windows", "bounds", "gate"]
    assert "guardrails alone" in shown(spec)


def test_a_long_file_that_is_not_in_order_of_time_is_read_whole_for_its_pace(tmp_path: Path):
    spec = copy_case("one-text-among-numbers", tmp_path)
    many = read_rows(spec).sample(3 * SAMPLE, with_replacement=True, seed=1, shuffle=True).with_columns(rid=range_ids(3 * SAMPLE))
    write_rows(spec, many)
    assert f": {3 * SAMPLE:,} from" in shown(spec)
    write_rows(spec, many.sort("ts"))
    assert f": {SAMPLE:,} from" in shown(spec)
    assert f"the first {SAMPLE:,} rows of" in " ".join(shown(spec).split())


def test_labels_and_rows_of_retrainings_are_said_where_the_spec_has_them(tmp_path: Path):
    spec = copy_case("one-text-among-numbers", tmp_path)
    spec.write_text('labels = { path = "truth/*.csv", every = "5m" }\nretrain.rows = "sources"\n' + spec.read_text())
    lines = describe_spec(spec).splitlines()
    assert "labels      truth/*.csv, looked at every 5m" in lines
    assert any(line.startswith("retraining  on all rows of the sources,") for line in lines)
