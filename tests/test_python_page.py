"""docs/python.md is executed: its snippets in their order, on a small model that has lived, in one namespace."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.lived import UNLABELLED, live
from tests.support.models import small_frame
from tests.support.processes import ROOT

SNIPPETS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
OURS = {'"flights"': '"small"', '"UA1545"': f'"{UNLABELLED}"'}
"""The page's model and id, and those of the test."""


def test_the_snippets_of_the_page_run_and_show_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(live(tmp_path).home))
    monkeypatch.chdir(tmp_path)
    small_frame(rows=10, seed=2).drop("outcome").write_parquet("new_rows.parquet")
    page: dict[str, Any] = {}
    for snippet in SNIPPETS:
        for theirs, ours in OURS.items():
            snippet = snippet.replace(theirs, ours)
        exec(snippet, page)
    assert page["scored"].columns == ["row_id", "asked_at", "score", "label", "version"]
    assert sorted(page["by_version"]["version"].to_list()) == [1, 3]
    assert page["windows"]["decision"].to_list() == ["drift", "promotion", "none"]
    assert page["versions"]["promised"].to_list() == [None, None, -0.1]
    assert page["decisions"]["kind"].to_list() == ["promotion", "refusal", "promotion"]
    assert "promotion" in capsys.readouterr().out
