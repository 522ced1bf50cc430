"""The command that writes a model as ONNX: by name, a version of one's choice, and the example of the docs on its file."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deployments.cli import run
from perennial.registry import Registry
from perennial.settings import load_settings
from tests.support.models import publish_small, small_frame, small_model
from tests.support.processes import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    monkeypatch.chdir(tmp_path)
    registry = Registry(load_settings({"PERENNIAL_HOME": str(tmp_path / "var")}).registry_url)
    publish_small(registry, small_model())
    publish_small(registry, small_model(learner="linear"))
    return tmp_path


def test_the_champion_is_written_and_what_was_checked_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "small", "--onnx", "small.onnx"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"wrote +small.onnx \(.* MB\), small version \d by l", said)
    assert "(n, 2): amount, shop" in said
    assert re.search(r"checked +1,004 rows, largest difference of a score .* \(tolerance 1e-09\)", said)


def test_the_docs_example_scores_like_the_version_that_was_named(home: Path) -> None:
    assert run(["export", "small", "--onnx", "flights.onnx", "--version", "2"]) == 0
    page = (ROOT / "docs" / "learners.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    row = {"amount": 0.25, "shop": "north"}
    known: dict[str, Any] = {}
    exec(example.replace('{"carrier": "UA", "distance": 1400}', repr(row)), known)
    frame = small_frame(rows=1).with_columns(**{name: pl.lit(value) for name, value in row.items()})
    assert known["scores"].tolist() == pytest.approx(small_model(learner="linear").predict_frame(frame).tolist(), rel=1e-9)
