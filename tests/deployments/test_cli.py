"""The command line: it teaches, it is quick, and it never shows a traceback for what a person can fix."""

import ast
import os
import signal
import subprocess
from pathlib import Path

import pytest

from deployments import cli
from deployments.cli import INTERRUPTED, app, run
from perennial import __version__
from tests.support.models import write_small
from tests.support.processes import ROOT, python

COMMANDS = (
    "init", "check", "up", "down", "status", "deploy", "train", "retrain", "promote", "approve", "backtest", "rollback",
    "predict", "serve", "demo", "version", "history", "trace", "export",
)  # fmt: skip
HEAVY = ("prefect", "polars", "lightgbm", "litserve", "pandas", "sklearn", "wandb", "evidently", "hyperopt", "redis", "numpy")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path))
    return tmp_path


def perennial(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    program = python("-c", "from deployments.cli import main; main()", *arguments)
    return subprocess.run(program, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environ}, check=False)


def test_help_names_every_command() -> None:
    shown = perennial("--help")
    assert shown.returncode == 0
    assert all(f"{command} " in shown.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: perennial {command}" in shown
    assert app[command].help


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from deployments.cli import run; run(['--help']); print('loaded:', *sys.modules)"
    done = subprocess.run(python("-c", code), capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert not set(HEAVY) & set(loaded)


def test_a_command_imports_what_imports_prefect_only_after_it_has_joined_the_stack() -> None:
    for function in (one for one in ast.parse(Path(cli.__file__).read_text()).body if isinstance(one, ast.FunctionDef)):
        nodes = list(ast.walk(function))
        shown = [one.lineno for one in nodes if isinstance(one, ast.ImportFrom) and one.module == "deployments.summary"]
        joined = [one.lineno for one in nodes if isinstance(one, ast.Name) and one.id in ("announce", "run_flow")]
        assert not shown or not joined or min(shown) > max(joined), function.name


def test_the_stack_is_joined_before_prefect_reads_the_environment() -> None:
    modules = "deployments.foreground, deployments.alias_moves, deployments.terminal"
    code = f"import sys; import {modules}; print('loaded:', *sys.modules)"
    done = subprocess.run(python("-c", code), capture_output=True, text=True, cwd=ROOT, check=True)
    assert "prefect" not in done.stdout.rpartition("loaded:")[2].split()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_check_says_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(ROOT / "examples" / "flights.toml")]) == 0
    assert "flights (binary)" in capsys.readouterr().out


def test_an_error_is_one_line_on_stderr() -> None:
    done = perennial("check", "nowhere.toml")
    expected = "error: no spec at nowhere.toml: give the path of a model spec such as examples/flights.toml\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_a_misspelt_setting_is_an_error() -> None:
    done = perennial("status", PERENNIAL_PROT="1")
    assert done.returncode == 1
    assert done.stderr == "error: PERENNIAL_PROT is not a setting of Perennial; did you mean PERENNIAL_PORT?\n"


def test_the_prefect_home_is_made_before_prefect_is_imported(home: Path) -> None:
    where = home / "new" / "prefect"
    steps = (
        "import os, sys",
        "from deployments.foreground import join_stack",
        "from perennial.settings import load_settings",
        "join_stack(load_settings(os.environ), os.environ)",
        "assert 'prefect' not in sys.modules",
    )
    environ = os.environ | {"PREFECT_HOME": str(where), "PERENNIAL_HOME": str(home)}
    subprocess.run(python("-c", "; ".join(steps)), env=environ, cwd=ROOT, check=True)
    assert where.is_dir()


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("deployments.check.check_spec", interrupt)
    assert run(["check", "x.toml"]) == INTERRUPTED == 128 + signal.SIGINT
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_that_came_of_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_arguments: object) -> str:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("Task run is not set")

    monkeypatch.setattr("deployments.check.check_spec", fail)
    assert run(["check", "x.toml"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_stack_that_is_down_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 1
    assert "the stack is down; start it with `perennial up SPEC`" in capsys.readouterr().out
    assert run(["down"]) == 0
    assert "nothing was running" in capsys.readouterr().out


def test_deploying_without_an_api_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", str(ROOT / "examples" / "flights.toml")]) == 1
    assert "no Prefect API to deploy to: run `perennial up SPEC`, or set PREFECT_API_URL" in capsys.readouterr().err


def test_deploying_to_an_api_that_is_away_names_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert run(["deploy", str(ROOT / "examples" / "flights.toml")]) == 1
    assert "the Prefect API at http://127.0.0.1:9/api does not answer" in capsys.readouterr().err


def test_an_approval_without_a_version_that_waits_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["approve", str(write_small(home))]) == 1
    assert capsys.readouterr().err == "error: no version of small waits for approval since its champion came to serve\n"
