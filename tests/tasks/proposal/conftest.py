"""Where a person stands who has a table."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person stands where the table is."""
    monkeypatch.chdir(tmp_path)
