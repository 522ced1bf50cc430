"""The load: wrk with bodies from a directory, for a bounded time, over loopback. An answer that is not 2xx voids the run."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.serve.errors import BenchError

SCRIPT = Path(__file__).with_name("post.lua")

PATIENCE = 60
"""Seconds after which one answer counts as an error, and beyond its time after which wrk itself is ended."""


@dataclass(frozen=True)
class Bodies:
    """Request bodies, one per file named 0, 1, ...; `rows` in each."""

    folder: Path
    count: int
    content_type: str
    rows: int


@dataclass(frozen=True)
class Report:
    """What wrk measured; times of answers in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rps(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def find_wrk() -> str:
    """The path of wrk; raises BenchError that says how to get it."""
    found = shutil.which("wrk")
    if found is None:
        how = "brew install wrk" if sys.platform == "darwin" else "apt-get install wrk (Debian, Ubuntu)"
        raise BenchError(f"wrk, which makes the load, is not on PATH: {how}")
    return found


def post(url: str, bodies: Bodies, connections: int, seconds: float, pause_ms: int = 0) -> Report:
    """Keep `connections` busy for `seconds`, each resting `pause_ms` before it asks.

    Raises BenchError when anything but 2xx came back.
    """
    # One thread: it makes ten times the load that any of these servers takes, and leaves them the cores.
    shape = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", f"{PATIENCE}s"]
    given = [bodies.content_type, str(bodies.folder), str(bodies.count), str(pause_ms)]
    command = [find_wrk(), *shape, "-s", str(SCRIPT), url, "--", *given]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk on {url} did not end {PATIENCE} s after its time") from None
    if done.returncode:
        raise BenchError(f"wrk on {url} ended with {done.returncode}: {done.stderr[-500:]}")
    return parse(done.stdout, f"{url}, {connections} connections, {bodies.rows} rows")


def parse(output: str, where: str) -> Report:
    """The report in wrk's output; raises BenchError when an answer failed or none came."""
    said = orjson.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))
    failed = {kind: said[kind] for kind in ("status", "connect", "read", "write", "timeout") if said[kind]}
    if failed:
        raise BenchError(f"{where}: failed requests, so the run does not count: {failed}")
    if not said["requests"]:
        raise BenchError(f"{where}: no answer came within the time, so the run does not count; try a longer --seconds")
    times = (said[name] / 1_000 for name in ("p50", "p99", "max"))
    return Report(said["requests"], said["duration"] / 1_000_000, *times)
