"""Modules of a person's own that bear the names of our packages."""

from pathlib import Path

import pytest

from deployments.cli import run
from deployments.namesakes import OWN_PACKAGES, refuse_namesakes
from perennial.errors import StackError
from tests.support.models import write_small
from tests.support.processes import ROOT


def test_the_checkout_is_no_namesake_of_itself() -> None:
    refuse_namesakes(ROOT)


@pytest.mark.parametrize("name", OWN_PACKAGES)
def test_a_module_or_package_of_that_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    refuse_namesakes(tmp_path)  # a mere directory hides no package
    (tmp_path / name / "__init__.py").touch()
    with pytest.raises(
        StackError, match=rf"{name}/__init__\.py would be imported in place of .*: run perennial in another directory"
    ):
        refuse_namesakes(tmp_path)


def test_up_and_serve_say_so_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    spec = write_small(tmp_path)
    (tmp_path / "tasks.py").touch()
    for command in ("up", "serve"):
        assert run([command, str(spec)]) == 1
        assert "tasks.py would be imported in place of Perennial's package" in capsys.readouterr().err
    assert not (tmp_path / "var" / "stack" / "logs").exists()
