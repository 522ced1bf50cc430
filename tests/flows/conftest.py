"""Flows run here in this process, against a real Prefect server, with their state in a directory of their own."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a Prefect server beside it; `var` in it is the flows' home."""
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    return tmp_path
