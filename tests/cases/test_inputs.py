"""Every case folder holds a spec that can be read and a table that has its columns: a case cannot fail for a missing file."""

from pathlib import Path

import pytest

from perennial.spec import load_spec
from tests.cases.inputs import CASES, copy_case, edit_spec, read_rows, write_rows


@pytest.mark.parametrize("case", CASES)
def test_a_copied_case_has_a_readable_spec_and_its_rows(case: str, tmp_path: Path):
    path = copy_case(case, tmp_path)
    spec = load_spec(path)
    assert spec.name == case
    assert {spec.target, spec.event_time, spec.id} <= set(read_rows(path).columns)


def test_an_edited_copy_leaves_the_case_as_it_was(tmp_path: Path):
    path = edit_spec(copy_case("zip-codes", tmp_path), target='target = "z"', positive='positive = "yes"')
    assert path.read_text().count('target = "z"\n') == path.read_text().count('positive = "yes"\n') == 1
    write_rows(path, read_rows(path).rename({"y": "z"}))
    assert "z" in read_rows(path).columns
    assert "z" not in read_rows(copy_case("zip-codes", tmp_path / "again")).columns
