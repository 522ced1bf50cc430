"""Hosting: a server runs, alone, while a block is measured, and nothing of it is left afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.serve.bodies import FORMS, make_bodies, same_scores
from benchmarks.serve.errors import BenchError
from benchmarks.serve.servers import LOOPBACK, Ground, Server, Start, commands_of
from benchmarks.serve.usage import tree
from tests.support.processes import free_port, running, wait_ready

START_TIMEOUT = 90.0
"""Seconds until a server answers: MLflow takes twenty of two busy cores."""


@dataclass(frozen=True)
class Hosted:
    """A server that answers with the right scores."""

    server: Server
    ground: Ground
    pid: int
    url: str

    def takes(self, form: str, rows: int = 1) -> bool:
        """Whether it takes rows in this form; one it takes must give the right scores."""
        bodies = make_bodies(self.ground.subject, form, rows, self.ground.work)
        answer = _post(self.url, (bodies.folder / "0").read_bytes(), form)
        if answer is not None and answer.is_success and not same_scores(form, answer.content, self.ground.subject, rows):
            raise BenchError(f"{self.server.name} gives other scores than the model: {answer.text[:200]}")
        return answer is not None and answer.is_success


@contextmanager
def hosted(server: Server, ground: Ground) -> Iterator[Hosted]:
    """Run a server until the block is left; raises BenchError when it does not answer, or answers wrongly."""
    port, log = free_port(), ground.work / f"{server.name}.log"
    start = server.start(ground, commands_of(server), port)
    _prepare(start)
    with _swept() as seen, running(start.command, log, start.environ, start.folder) as process:
        host = Hosted(server, ground, process.pid, f"http://{LOOPBACK}:{port}{server.path}")
        try:
            _wait_ready(host, process, log)
            yield host
        finally:
            seen.extend(tree(process.pid))


def _wait_ready(host: Hosted, process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        wait_ready(process, lambda: host.takes(host.server.form), log, START_TIMEOUT, host.server.name)
    except AssertionError as error:
        raise BenchError(str(error)) from None


def _prepare(start: Start) -> None:
    if start.before:
        environ = {**os.environ, **start.environ}
        done = subprocess.run(start.before, cwd=start.folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(start.before)} ended with {done.returncode}: {done.stderr[-1_000:]}")


def _post(url: str, body: bytes, form: str) -> httpx.Response | None:
    try:
        return httpx.post(url, content=body, headers={"content-type": FORMS[form].content_type}, timeout=60)
    except httpx.HTTPError:
        return None


@contextmanager
def _swept() -> Iterator[list[psutil.Process]]:
    """What has left the server's process group is ended here: `running` ends only the group."""
    seen: list[psutil.Process] = []
    try:
        yield seen
    finally:
        for process in seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
