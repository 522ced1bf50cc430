"""`perennial init` on the command line: it writes what `check` takes, asks on a terminal, and never writes over a file."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.cli import run
from perennial.spec import load_spec
from tests.support.models import small_frame


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person stands in a directory with a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    small_frame().write_csv("sales.csv")
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; what is written to it was typed."""
    master, slave = os.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield master
    os.close(master)


def test_what_is_written_is_what_check_takes_and_the_last_line_says_so(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "sales.csv", "--target", "outcome"]) == 0
    printed = capsys.readouterr().out
    spec = load_spec(there / "sales.toml")
    assert (spec.event_time, spec.id, spec.task) == ("asked_at", "row_id", "binary")
    assert printed.splitlines()[0] == "read        1,000 rows, all there are"
    *_, first, instead = printed.splitlines()
    assert "perennial check sales.toml, then perennial up sales.toml" in first
    assert "perennial replay sales.toml" in instead
    assert run(["check", "sales.toml"]) == 0
    assert "NEVER" not in capsys.readouterr().out


def test_a_file_that_is_there_is_written_over_by_force_only(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (there / "sales.toml").write_text("mine")
    assert run(["init", "sales.csv", "--target", "outcome"]) == 1
    assert "sales.toml is there already: give --out another name, or --force" in capsys.readouterr().err
    assert (there / "sales.toml").read_text() == "mine"
    assert run(["init", "sales.csv", "--target", "outcome", "--force"]) == 0
    assert run(["init", "sales.csv", "--target", "outcome", "--out", "specs/other.toml"]) == 0
    assert load_spec(there / "specs" / "other.toml").sources["rows"].path == "../sales.csv"


def test_without_a_terminal_the_error_names_the_option_and_nothing_is_written(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (there / "sales.csv").open() as no_terminal:
        monkeypatch.setattr("sys.stdin", no_terminal)
        assert run(["init", "sales.csv"]) == 1
    assert "give --target\n" in capsys.readouterr().err
    assert not list(there.glob("*.toml"))


def test_on_a_terminal_what_cannot_be_told_is_asked(there: Path, terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    os.write(terminal, b"outcome\n")
    assert run(["init", "sales.csv"]) == 0
    assert "which column is to be predicted?" in capsys.readouterr().out
    assert load_spec(there / "sales.toml").target == "outcome"


def test_a_choice_may_be_named_by_its_number(there: Path, terminal: int) -> None:
    os.write(terminal, b"1\n")
    assert run(["init", "sales.csv"]) == 0
    assert load_spec(there / "sales.toml").target == "outcome", "the last column stands first"
