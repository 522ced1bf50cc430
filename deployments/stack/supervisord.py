"""Keeping programs alive: one supervisord for each home directory, started with a generated file, called over a unix socket.

supervisord starts a program again when it ends, and stops all of them in order. Each program writes its process id to a file
before it becomes itself, so `stop` also finds what outlived a supervisor that was killed: a living process of that id belongs to
the stack when it began before the file was written. What it started is found among its descendants, and by a variable in its
environment where the program itself is gone.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from pydantic import Field

from deployments.stack.process_tree import is_alive, process_tree, wait_ended
from perennial.base import FrozenModel
from perennial.errors import StackError

CONFIG = "supervisord.conf"  # the supervisor's configuration, in its directory
MAX_SOCKET_PATH = 90  # bytes; macOS takes 104 for a unix socket's path, and supervisord tries a longer name first
STOP_TIMEOUT = timedelta(seconds=60)  # for all programs to stop one after the other; then they are killed
TERMINATE_TIMEOUT = timedelta(seconds=5)  # for a process that outlived its supervisor to end after SIGTERM; then it is killed
CLOCK_TOLERANCE = timedelta(seconds=2)  # a process may seem to begin after it wrote its file: kernels tell start times in seconds
DEAD_STATES = ("FATAL", "BACKOFF", "EXITED")  # of a program that was started and does not run
ALIVE_STATES = ("RUNNING", "STARTING")  # of a program that runs, or will unless it fails at once

DESCENDANT_VARIABLE = "SUPERVISOR_SERVER_URL"
"""Variable that supervisord gives its programs and they to their children; its value names the supervisor's socket."""

RECORD_PID = 'echo $$ > "$0"; exec "$@"'
"""Shell code that writes its own process id to a file and becomes the program, which so has that id and start time."""


class Program(FrozenModel):
    """One supervised program."""

    name: str
    command: tuple[str, ...]
    order: int = Field(description="started in this order, stopped in the reverse one")
    directory: Path
    environment: dict[str, str] = Field(default_factory=dict, description="beyond what all programs share; plain values only")
    autostart: bool = Field(True, description="started with the supervisor; otherwise when asked")


class ProgramState(NamedTuple):
    """What the supervisor says about a program."""

    state: str
    pid: int


def socket_path(directory: Path) -> Path:
    """Where the supervisor of `directory` listens: there, or in a short private directory when that path is too long."""
    inside = directory / "supervisor.sock"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
        return inside
    short = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-{short}" / "s"


def write_config(directory: Path, socket: Path, programs: Sequence[Program]) -> None:
    """Write the supervisor's configuration."""
    for folder in ("logs", "pids"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sections = [_supervisor_section(directory, socket), *(_program_section(directory, program) for program in programs)]
    (directory / CONFIG).write_text("\n".join(sections), encoding="utf-8")


def log_file(directory: Path, name: str) -> Path:
    """Where a program's output goes."""
    return directory / "logs" / f"{name}.log"


def start(directory: Path, environment: Mapping[str, str], descriptors: Sequence[int] = ()) -> None:
    """Start the supervisor in the background with the written configuration; raises StackError with what it said.

    It keeps the `descriptors` open for as long as it lives; its programs do not have them.
    """
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(directory / CONFIG)]
    streams: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(command, env=dict(environment), pass_fds=descriptors, check=False, **streams)
    if done.returncode:
        raise StackError(f"the supervisor of the stack does not start: {(done.stderr or done.stdout).strip()[-1_000:]}")


def find_supervisor(directory: Path) -> psutil.Process | None:
    """The running supervisor of a directory: of its pid file, or, where that is lost, the process with its command."""
    if recorded := _recorded_process(directory / "supervisord.pid"):
        return recorded
    wanted = {"supervisor.supervisord", str(directory / CONFIG)}
    found = (one for one in psutil.process_iter(["cmdline"]) if wanted.issubset(one.info["cmdline"] or ()))
    return next(found, None)


def states(socket: Path) -> dict[str, ProgramState]:
    """Every program's state by name; raises StackError when the supervisor does not answer."""
    rows = _call(socket, "supervisor.getAllProcessInfo")
    return {row["name"]: ProgramState(row["statename"], row["pid"]) for row in rows}


def start_program(socket: Path, name: str) -> None:
    """Start a program that is not running, without waiting for it."""
    if states(socket)[name].state not in ALIVE_STATES:
        _call(socket, "supervisor.startProcess", name, False)


def update_programs(socket: Path) -> tuple[str, ...]:
    """Read the configuration again: start what is new, start anew what has changed, end what is gone; returns their names.

    What has not changed is not touched. A program that is started anew has ended in order before.
    """
    ((added, changed, removed),) = _call(socket, "supervisor.reloadConfig")
    for name in (*changed, *removed):
        _call(socket, "supervisor.stopProcessGroup", name)
        _call(socket, "supervisor.removeProcessGroup", name)
    for name in (*added, *changed):
        _call(socket, "supervisor.addProcessGroup", name)
    return (*added, *changed, *removed)


def stop(directory: Path, socket: Path) -> None:
    """End the supervisor, its programs in order, and whatever they started; nothing of it lives afterwards."""
    supervisor = find_supervisor(directory)
    family = {*(process_tree(supervisor.pid) if supervisor else ()), *program_processes(directory, socket)}
    if supervisor:
        supervisor.terminate()
        wait_ended([supervisor], STOP_TIMEOUT)
    _end(list(filter(is_alive, {*family, *program_processes(directory, socket)})))
    socket.unlink(missing_ok=True)
    if socket.parent not in (directory, *directory.parents) and socket.parent.exists():
        socket.parent.rmdir()


def program_processes(directory: Path, socket: Path) -> list[psutil.Process]:
    """Every living process of a directory's programs, whether or not its supervisor still runs."""
    recorded = filter(None, map(_recorded_process, directory.glob("pids/*.pid")))
    marked = (process for process in psutil.process_iter() if _has_variable(process, f"unix://{socket}"))
    return list({*(process for program in recorded for process in process_tree(program.pid)), *marked})


def _recorded_process(file: Path) -> psutil.Process | None:
    """The living process that wrote its id to a file; one that began afterwards has the number of a process that ended."""
    try:
        process = psutil.Process(int(file.read_text()))
        began_before = process.create_time() <= file.stat().st_mtime + CLOCK_TOLERANCE.total_seconds()
        return process if began_before and is_alive(process) else None
    except (OSError, ValueError, psutil.Error):
        return None


def _has_variable(process: psutil.Process, value: str) -> bool:
    try:
        return process.pid != os.getpid() and bool(process.environ().get(DESCENDANT_VARIABLE) == value)
    except (psutil.Error, OSError):
        return False


def _end(processes: list[psutil.Process]) -> None:
    for signal in ("terminate", "kill"):
        for process in processes:
            try:
                getattr(process, signal)()
            except psutil.NoSuchProcess:
                continue
        processes = wait_ended(processes, TERMINATE_TIMEOUT)


def _call(socket: Path, method: str, *arguments: object) -> Any:
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{socket}")
    try:
        # The address is only a form: the transport goes through the socket.
        return getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport), method)(*arguments)
    except xmlrpc.client.Fault as error:
        raise StackError(f"the supervisor refuses {method}{arguments}: {error.faultString}") from error
    except (OSError, HTTPException, xmlrpc.client.Error) as error:
        raise StackError(f"the supervisor at {socket} does not answer ({error}): run `perennial down` and start again") from error
    finally:
        transport.close()


def _supervisor_section(directory: Path, socket: Path) -> str:
    return f"""[supervisord]
logfile = {_escape(directory / "logs" / "supervisord.log")}
pidfile = {_escape(directory / "supervisord.pid")}
childlogdir = {_escape(directory / "logs")}

[unix_http_server]
file = {_escape(socket)}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def _program_section(directory: Path, program: Program) -> str:
    environment = ",".join(f'{name}="{_escape(value)}"' for name, value in program.environment.items())
    command = ("/bin/sh", "-c", RECORD_PID, str(directory / "pids" / f"{program.name}.pid"), *program.command)
    return f"""[program:{program.name}]
command = {_escape(shlex.join(command))}
directory = {_escape(program.directory)}
environment = {environment}
priority = {program.order}
autostart = {str(program.autostart).lower()}
autorestart = true
startsecs = 2
startretries = 10
stopasgroup = true
killasgroup = true
stopwaitsecs = 10
redirect_stderr = true
stdout_logfile = {_escape(_escape(log_file(directory, program.name)))}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 1
"""


def _escape(value: object) -> str:
    """supervisord fills in %(...)s itself, and in the names of log files even twice."""
    return str(value).replace("%", "%%")
