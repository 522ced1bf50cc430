"""Processes and ports of a stack of two models with one PERENNIAL_PORT, whose supervisor is killed as an OOM killer does."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deployments.stack.state import Stack, load_stack
from deployments.stack.supervisord import find_supervisor
from tests.support.models import write_small
from tests.support.prefect_database import prepare_home
from tests.support.processes import ROOT, free_port, python

TIMEOUT = 400


class Person:
    """Runs commands in one home directory with one PERENNIAL_PORT, as a person does."""

    def __init__(self, directory: Path) -> None:
        self.home, self.port, self.first = directory / "var", free_port(), write_small(directory)
        self.second = directory / "second.toml"
        self.second.write_text(self.first.read_text().replace('name = "small"', 'name = "second"'))

    def run(self, *arguments: str) -> str:
        environ = {**os.environ, "PERENNIAL_HOME": str(self.home), "PERENNIAL_PORT": str(self.port)}
        command = python("-c", "from deployments.cli import main; main()", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, check=False, timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stack(self) -> Stack:
        stack = load_stack(self.home)
        assert stack is not None
        return stack

    def kill_supervisor(self) -> set[psutil.Process]:
        """SIGKILL the supervisor; returns what it leaves behind."""
        supervisor = find_supervisor(self.stack().state_dir)
        assert supervisor is not None
        family = {process for process in supervisor.children(recursive=True) if process.status() != psutil.STATUS_ZOMBIE}
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait(10)
        return family


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path)
    prepare_home(person.home)
    yield person
    person.run("down")


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def addresses(stack: Stack) -> dict[str, object]:
    return {"store": stack.store, "prefect": stack.prefect, "service": stack.service}


def test_two_models_on_one_stack_keep_their_service_over_killed_supervisors_and_nothing_is_left(person: Person) -> None:
    person.run("up", str(person.first))
    said = person.run("up", str(person.second))
    before = addresses(person.stack())
    assert f"small  http://127.0.0.1:{person.port}/models/small/predict" in said
    assert [model.name for model in person.stack().models] == ["small", "second"]
    left = person.kill_supervisor()
    assert len(living(left)) > 3, "store, server, worker and service outlive their supervisor"
    person.run("up", str(person.second))
    assert living(left) == []
    person.run("up", str(person.first))
    assert addresses(person.stack()) == before
    person.run("status")  # is well, though the monitors of before the kill have crashed
    left = person.kill_supervisor()
    for process in left:
        with suppress(psutil.NoSuchProcess):
            if "worker" in process.cmdline():
                process.kill()
    person.run("down")
    assert living(left) == []
