"""Keeping programs alive, and leaving none behind."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.stack import supervisord
from deployments.stack.supervisord import Program
from perennial.errors import StackError
from tests.support.waiting import wait_until

FOREVER = "import threading; threading.Event().wait()"
FAMILY = "; ".join(
    (
        "import subprocess, sys, pathlib",
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}], start_new_session=True)",
        "pathlib.Path('child.pid').write_text(str(child.pid))",
        "child.wait()",
    )
)
"""A program whose child is in a session of its own, where a signal to the group does not reach it."""


def program(directory: Path, name: str, code: str = FOREVER, **more: object) -> Program:
    return Program.model_validate(
        {
            "name": name,
            "command": (sys.executable, "-c", code),
            "order": 1,
            "directory": directory,
        }
        | more
    )


class Supervised:
    """A supervisor over some programs in one directory."""

    def __init__(self, directory: Path, *programs: Program) -> None:
        self.directory, self.socket = directory, supervisord.socket_path(directory)
        supervisord.write_config(directory, self.socket, programs)
        supervisord.start(directory, os.environ)

    def state(self, name: str) -> str:
        return supervisord.states(self.socket)[name].state

    def pid(self, name: str) -> int:
        """The pid of a program once it runs."""
        wait_until(lambda: self.state(name) == "RUNNING", 20, f"{name} to run")
        return supervisord.states(self.socket)[name].pid

    def stop(self) -> None:
        supervisord.stop(self.directory, self.socket)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    supervisord.stop(tmp_path, supervisord.socket_path(tmp_path))


def test_a_killed_program_is_started_again(directory: Path) -> None:
    supervised = Supervised(directory, program(directory, "one"))
    first = supervised.pid("one")
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: supervised.pid("one") != first, 20, "another process")


def test_a_program_waits_until_it_is_asked_for(directory: Path) -> None:
    supervised = Supervised(directory, program(directory, "later", autostart=False))
    assert supervised.state("later") == "STOPPED"
    supervisord.start_program(supervised.socket, "later")
    assert supervised.pid("later")


def test_a_program_can_be_added_while_others_run(directory: Path) -> None:
    one, two = program(directory, "one"), program(directory, "two")
    supervised = Supervised(directory, one)
    before = supervised.pid("one")
    supervisord.write_config(directory, supervised.socket, (one, two))
    assert supervisord.update_programs(supervised.socket) == ("two",)
    assert supervised.pid("two")
    assert supervised.pid("one") == before


def test_nothing_outlives_the_stop_not_even_a_session_of_its_own(directory: Path) -> None:
    supervised = Supervised(directory, program(directory, "family", FAMILY))
    mother = supervised.pid("family")
    child = int(wait_until(lambda: _read(directory / "child.pid"), 20, "the child"))
    supervised.stop()
    assert not _alive(mother)
    assert not _alive(child)
    assert supervisord.find_supervisor(directory) is None
    assert not supervised.socket.exists()


def kill_supervisor(directory: Path) -> None:
    supervisor = supervisord.find_supervisor(directory)
    assert supervisor is not None
    supervisor.kill()
    wait_until(lambda: supervisord.find_supervisor(directory) is None, 10, "the supervisor to be gone")


WIPED = ("/usr/bin/env", "-i", sys.executable, "-c", FOREVER)
"""A program whose environment says nothing of the stack, as that of a server that overwrites it with its title."""


@pytest.mark.parametrize("more", [{}, {"command": WIPED}], ids=["marked", "environment wiped"])
def test_what_a_killed_supervisor_left_is_found_and_ended(directory: Path, more: dict[str, object]) -> None:
    supervised = Supervised(directory, program(directory, "one", **more))
    left = supervised.pid("one")
    kill_supervisor(directory)
    assert [process.pid for process in supervisord.program_processes(directory, supervised.socket)] == [left]
    supervised.stop()
    assert not _alive(left)


def test_a_program_that_was_started_again_is_found_under_its_new_number(directory: Path) -> None:
    supervised = Supervised(directory, program(directory, "one", command=WIPED))
    first = supervised.pid("one")
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: supervised.pid("one") if supervised.pid("one") != first else None, 20, "another process")
    kill_supervisor(directory)
    supervised.stop()
    assert not _alive(second)


def test_what_a_program_started_is_ended_when_program_and_supervisor_were_killed(directory: Path) -> None:
    supervised = Supervised(directory, program(directory, "family", FAMILY))
    mother = supervised.pid("family")
    child = int(wait_until(lambda: _read(directory / "child.pid"), 20, "the child"))
    kill_supervisor(directory)
    os.kill(mother, signal.SIGKILL)
    supervised.stop()
    assert not _alive(child)


def test_a_process_that_got_the_number_of_an_old_program_is_left_alone(directory: Path) -> None:
    (directory / "pids").mkdir()
    for file in (directory / "supervisord.pid", directory / "pids" / "one.pid"):
        file.write_text(str(os.getpid()))
        os.utime(file, (1_000_000, 1_000_000))
    assert supervisord.find_supervisor(directory) is None
    assert supervisord.program_processes(directory, supervisord.socket_path(directory)) == []


def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    supervised = Supervised(deep, program(deep, "one"))
    try:
        assert supervised.pid("one")
        assert len(os.fsencode(supervised.socket)) <= supervisord.MAX_SOCKET_PATH
        assert supervised.socket.parent.stat().st_mode & 0o077 == 0
    finally:
        supervised.stop()
    assert not supervised.socket.parent.exists()


def test_paths_and_commands_keep_their_special_characters(tmp_path: Path) -> None:
    odd = tmp_path / "50% of 'it'"
    odd.mkdir()
    supervised = Supervised(odd, program(odd, "odd", f"import sys; print('100%s', sys.argv[1:], flush=True); {FOREVER}"))
    try:
        supervised.pid("odd")
        assert wait_until(lambda: _read(supervisord.log_file(odd, "odd")), 10, "output") == "100%s []\n"
    finally:
        supervised.stop()


def test_a_supervisor_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"does not answer .*: run `perennial down` and start again"):
        supervisord.states(tmp_path / "nobody.sock")


def test_a_configuration_that_is_wrong_is_said_at_once(directory: Path) -> None:
    supervisord.write_config(directory, supervisord.socket_path(directory), ())
    (directory / supervisord.CONFIG).write_text("[supervisord]\nlogfile_maxbytes = many\n")
    with pytest.raises(StackError, match=r"the supervisor of the stack does not start: .*'many'"):
        supervisord.start(directory, os.environ)


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
