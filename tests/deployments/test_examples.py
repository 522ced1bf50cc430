"""`perennial examples`: the specs of the documentation, where there is no checkout to read them in."""

from pathlib import Path

import pytest

from deployments.cli import run
from tests.support.processes import ROOT

NAMES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_file())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_are_written_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["examples"]) == 0
    assert sorted(path.name for path in (here / "examples").iterdir()) == NAMES
    assert all((here / "examples" / name).read_bytes() == (ROOT / "examples" / name).read_bytes() for name in NAMES)
    assert "perennial check examples/flights.toml" in capsys.readouterr().out
    (here / "examples" / "flights.py").unlink()
    assert run(["examples"]) == 0
    written, present = capsys.readouterr().out.split("there already")
    assert "flights.py" in written
    assert "flights.toml" in present


def test_an_example_that_was_edited_is_not_written_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = here / "mine" / "flights.toml"
    edited.parent.mkdir()
    edited.write_text("mine")
    assert run(["examples", "mine"]) == 1
    assert capsys.readouterr().err == (
        "error: mine/flights.toml would be written over: name another directory, `perennial examples DIRECTORY`\n"
    )
    assert [path.name for path in edited.parent.iterdir()] == ["flights.toml"]
    assert edited.read_text() == "mine"
