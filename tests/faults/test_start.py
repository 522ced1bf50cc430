"""What is wrong before anything runs: one clear line that names the thing and the fix, exit code 1, and no process left."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.stack import supervisord
from deployments.stack.state import state_dir
from tests.support.models import write_small
from tests.support.processes import ROOT, free_port, python
from tests.support.stack import COMMAND_TIMEOUT


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_small(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home in which nothing runs, before and after."""
    yield tmp_path / "var"
    directory = state_dir(tmp_path / "var")
    assert supervisord.find_supervisor(directory) is None
    assert supervisord.program_processes(directory, supervisord.socket_path(directory)) == []


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield int(somebody.getsockname()[1])


def refused(command: list[str], home: Path, **environ: object) -> str:
    """The last line on stderr of a command that cannot work."""
    own = {"PERENNIAL_HOME": str(home)} | {name: str(value) for name, value in environ.items()}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1].strip()


def perennial(*arguments: object) -> list[str]:
    return python("-c", "from deployments.cli import main; main()", *map(str, arguments))


def test_a_port_that_is_taken(spec: Path, home: Path, taken: int) -> None:
    line = refused(perennial("up", spec), home, PERENNIAL_PORT=taken)
    assert line.startswith(f"error: port {taken} on 127.0.0.1 is taken, but PERENNIAL_PORT asks for it")
    assert "end what listens there, or change it" in line


def test_a_store_that_is_not_there(spec: Path, home: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    line = refused(perennial("up", spec), home, REDIS_URL=nowhere)
    assert line.startswith(f"error: the store at {nowhere} does not take commands")
    assert line.endswith("start it, or set REDIS_URL")


def test_a_prefect_api_that_is_not_there(spec: Path, home: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/api"
    line = refused(perennial("up", spec), home, PREFECT_API_URL=nowhere)
    assert line.startswith(f"error: the Prefect API at {nowhere} does not answer (")
    assert line.endswith("): start it, or change or unset PREFECT_API_URL")


def test_a_spec_that_is_not_there(home: Path) -> None:
    line = refused(perennial("up", "nowhere.toml"), home)
    assert line == "error: no spec at nowhere.toml: give the path of a model spec such as examples/flights.toml"


def test_a_key_that_is_misspelt(spec: Path, home: Path) -> None:
    spec.write_text(spec.read_text().replace("event_time", "event_tmie"))
    line = refused(perennial("up", spec), home)
    assert line == "event_tmie: unknown key; did you mean 'event_time'?"
