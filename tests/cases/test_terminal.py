"""What a person is told on the terminal: how a training ended, and in one line what is in the way of it."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from deployments.cli import run
from deployments.foreground import START_TIMEOUT
from tests.cases.inputs import copy_case, read_rows, write_rows
from tests.support.models import write_small
from tests.support.processes import ROOT, free_port, python

DEAD_PROXY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


def perennial(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does, with a proxy in the environment that is away."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), DEAD_PROXY)
    own = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    program = python("-c", "from deployments.cli import main; main()", *arguments)
    return subprocess.run(program, capture_output=True, text=True, cwd=ROOT, env={**own, **proxies, **environ}, check=False)


@dataclass
class Home:
    """A model's spec and state, and a Prefect API; `said` is what each command printed."""

    spec: Path
    environ: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, *arguments: str) -> None:
        """Run a command on the spec, and keep its output."""
        done = perennial(arguments[0], str(self.spec), *arguments[1:], **self.environ)
        assert done.returncode == 0, done.stderr
        self.said[name] = done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, _prefect_server: str) -> Home:
    """Two trainings on the same rows, three without a readable time and one with a text among numbers, and what follows them."""
    directory = tmp_path_factory.mktemp("terminal")
    spec = copy_case("one-text-among-numbers", directory)
    write_rows(spec, read_rows(spec).with_columns(ts=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("soon")).otherwise("ts")))
    environ = {"PERENNIAL_HOME": str(directory / "var"), "PREFECT_API_URL": _prefect_server, "WANDB_MODE": "disabled"}
    home = Home(spec, environ)
    home.run("first", "train")
    home.run("second", "train")
    home.run("rollback", "rollback", "--to", "1")
    home.run("predict", "predict", str(spec.parent / "rows.csv"), str(directory / "scores.parquet"), "-v")
    return home


def row(said: str, name: str) -> str:
    """What a table says in the row of this name."""
    return next(line for line in said.splitlines() if line.startswith(f"{name} ")).removeprefix(name).strip()


def test_a_training_ends_with_what_it_read_and_learnt(home: Home) -> None:
    said = home.said["first"]
    assert row(said, "model") == "one-text-among-numbers version 1 (binary, lightgbm)"
    assert row(said, "rows") == "400 read, 3 quarantined, 0 without a label"
    assert row(said, "quarantined").startswith("ts: has no readable time in 3 rows, such as 'soon'")
    assert "'n/a'" in row(said, "read as null")
    assert row(said, "kinds") == "1 numeric: x"
    assert "1 categorical: c" in said
    assert row(said, "base rate").startswith("y: true in ")
    assert " (always the mean: 0.5)" in next(line for line in said.splitlines() if line.strip().startswith("auc "))


def test_it_says_what_the_gate_decided_where_that_serves_and_what_to_do_next(home: Home) -> None:
    first, second = home.said["first"], home.said["second"]
    assert row(first, "gate") == "promoted: the first model: nothing serves yet"
    assert row(first, "serves") == f"version 1 once its service runs: perennial up {home.spec}"
    assert row(first, "next") == f"perennial up {home.spec}"
    assert row(second, "model").startswith("one-text-among-numbers version 2 ")
    assert row(second, "gate").startswith("promoted: warning: nothing was compared, the guardrails alone decide: only 0 ")
    assert row(second, "serves").startswith("version 2 ")


def test_prefects_log_is_in_a_file_and_with_v_on_the_terminal(home: Home) -> None:
    log = Path(home.environ["PERENNIAL_HOME"]) / "stack" / "logs" / "train.log"
    assert "Finished in state Completed()" in log.read_text()
    assert "Finished in state Completed()" not in home.said["first"] + home.said["second"]
    assert "Finished in state Completed()" in home.said["predict"]
    assert row(home.said["predict"], "scores").endswith("scores.parquet")


def test_a_rollback_says_which_version_serves_and_how_to_take_it_back(home: Home) -> None:
    said = home.said["rollback"]
    assert row(said, "champion") == "one-text-among-numbers version 1 (was 2)"
    assert "log_loss" in row(said, "test")
    assert row(said, "next").startswith(f"perennial rollback {home.spec} --to 2 ")


def test_a_rollback_goes_through_without_prefect_and_says_who_does_not_know(home: Home) -> None:
    away = {**home.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = perennial("rollback", str(home.spec), "--to", "2", **away)
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout, "champion") == "one-text-among-numbers version 2 (was 1)"
    assert row(done.stdout, "event").startswith(
        "the Prefect feed does not know: the Prefect API at http://127.0.0.1:9/api does not"
    )


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run in this process change its environment, which is put back afterwards."""
    before = dict(os.environ)
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    yield
    os.environ.clear()
    os.environ.update(before)


COMMANDS = (("train",), ("retrain",), ("predict", "rows.parquet", "scores.parquet"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_a_prefect_api_that_is_away_is_one_line(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert run([command[0], str(write_small(tmp_path)), *command[1:]]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the Prefect API at http://127.0.0.1:9/api does not answer (")
    assert line.endswith("run `perennial up SPEC`, or check PREFECT_API_URL")


@pytest.mark.usefixtures("in_process")
def test_a_replay_without_a_service_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, port = write_small(tmp_path), free_port()
    monkeypatch.setenv("PERENNIAL_PORT", str(port))
    assert run(["replay", str(spec), "--start", "2024-01-01"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: no service answers at http://127.0.0.1:{port}: run `perennial up {spec}`")


def test_a_temporary_server_that_does_not_come_in_time_is_one_line(tmp_path: Path) -> None:
    done = perennial("train", str(write_small(tmp_path)), PERENNIAL_HOME=str(tmp_path / "var"), **{START_TIMEOUT: "0"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the temporary Prefect server did not come up in 0 s, its log is ")
    assert ": run `perennial up SPEC`, or point" in line


def test_a_proxy_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    done = perennial("train", str(write_small(tmp_path)), PERENNIAL_HOME=str(tmp_path / "var"), ALL_PROXY="socks://127.0.0.1:9")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ALL_PROXY=socks://127.0.0.1:9 cannot be used as a proxy (")
