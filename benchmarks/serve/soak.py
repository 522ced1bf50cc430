"""The soak: minutes of steady load below the most that the service can do. Does its memory grow, do its descriptors?

Whoever looks only at the end cannot tell growth from warming up, so every process is looked at all the time and a line is
laid through what was found after the first minute.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import psutil
import redis

from benchmarks.serve.bodies import make_bodies
from benchmarks.serve.errors import BenchError
from benchmarks.serve.hosting import Hosted
from benchmarks.serve.load import Bodies, Report, post
from benchmarks.serve.logged import take, take_logged
from benchmarks.serve.usage import settle, tree

SHARE = 0.7
"""Of the most answers a second."""

PAUSE_MS = 10
"""Milliseconds that a connection of the steady load rests between answer and question; wrk knows no rate, only this."""

CONNECTIONS, TRIES, SECONDS = 64, 3, 5.0
"""How the most is found: the median of some short loads."""

LOOK = 5.0
"""Seconds between two looks at the processes; what was logged is counted and removed as often as that."""

WARM_UP = 60.0
"""Seconds after which the line begins: caches and arenas have filled."""


@dataclass(frozen=True)
class Trend:
    """One process. Memory resident, in MB: at the beginning and the end of the line, and its slope with standard error."""

    process: str
    first_mb: float
    last_mb: float
    mb_per_hour: float
    error: float
    first_descriptors: int
    last_descriptors: int
    most_descriptors: int


@dataclass(frozen=True)
class Soak:
    """What was found: the most and the steady answers a second, and all processes."""

    most_rps: float
    share: float
    steady: Report
    trends: Sequence[Trend]

    def record(self) -> dict[str, object]:
        """For the results file."""
        return {**asdict(self), "rps": round(self.steady.rps, 1)}

    def render(self) -> str:
        """A Markdown table under a line with the load."""
        steady = self.steady
        head = (
            f"{steady.seconds / 60:.3g} minutes at {steady.rps:,.0f} requests/s, {100 * self.share:.0f} % of the most "
            f"({self.most_rps:,.0f}); {steady.requests:,} answers, none failed, "
            f"p50 {steady.p50_ms:.1f} ms, p99 {steady.p99_ms:.1f} ms\n\n"
            "| process | MB, from to | MB an hour | descriptors, from to (most) |\n|---|--:|--:|--:|\n"
        )
        return head + "".join(_line(trend) for trend in self.trends)


def soak(host: Hosted, store: redis.Redis, minutes: float) -> Soak:
    """Soak a server; raises BenchError when a request fails or a row is missing in the log."""
    bodies = make_bodies(host.ground.subject, host.server.form, 1, host.ground.work)
    most = median(post(host.url, bodies, CONNECTIONS, SECONDS).rps for _ in range(TRIES))
    connections = _connections(host.url, bodies, SHARE * most)
    settle(host.pid)
    _forget(store, host.server.stream)
    with _watching(host, store) as watch:
        steady = post(host.url, bodies, connections, 60 * minutes, PAUSE_MS)
    take_logged(store, host.server.stream, steady.requests - watch.logged, "soak")
    return Soak(most, steady.rps / most, steady, watch.trends())


def _connections(url: str, bodies: Bodies, rps: float) -> int:
    """How many connections that rest between questions make this load: the more, the slower each, so it takes some tries."""
    connections = round(rps * (PAUSE_MS + 2) / 1_000)
    for _ in range(TRIES):
        connections = round(connections * rps / post(url, bodies, connections, SECONDS, PAUSE_MS).rps)
    return connections


def _forget(store: redis.Redis, stream: str | None) -> None:
    if stream is None:
        raise BenchError("only a server that logs is soaked")
    take(store, stream)


@dataclass(frozen=True)
class _Look:
    at: float
    name: str
    mb: float
    descriptors: int


class _Watch:
    """Looks at all processes of a server from a thread of its own, and keeps the stream short."""

    def __init__(self, host: Hosted, store: redis.Redis) -> None:
        self._pid = host.pid
        self._store = store
        self._stream = host.server.stream or ""
        self._looks: dict[int, list[_Look]] = {}
        self.logged = 0
        """Rows counted and removed."""

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`."""
        at = 0.0
        while not stop.wait(LOOK):
            at += LOOK
            for process in tree(self._pid):
                self._look(process, at)
            self.logged += take(self._store, self._stream)

    def trends(self) -> list[Trend]:
        """Every process that lived through it all; raises BenchError when one did not."""
        counts = {len(looks) for looks in self._looks.values()}
        if len(counts) != 1:
            raise BenchError(f"processes came or went during the soak: {sorted(counts)} looks at them")
        return [_trend(looks) for looks in self._looks.values()]

    def _look(self, process: psutil.Process, at: float) -> None:
        with process.oneshot():
            look = _Look(at, _role(process, self._pid), process.memory_info().rss / 2**20, process.num_fds())
        self._looks.setdefault(process.pid, []).append(look)


@contextmanager
def _watching(host: Hosted, store: redis.Redis) -> Iterator[_Watch]:
    watch, stop = _Watch(host, store), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch")
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def _role(process: psutil.Process, top: int) -> str:
    """What a process is."""
    if process.pid == top:
        return "main"
    if "resource_tracker" in " ".join(process.cmdline()):
        return "resource tracker"
    return "worker"


def _trend(looks: Sequence[_Look]) -> Trend:
    late = [look for look in looks if look.at >= WARM_UP] or list(looks)
    times, sizes = (np.array([getattr(look, name) for look in late]) for name in ("at", "mb"))
    slope, error = _slope(times / 3_600, sizes)
    descriptors = [look.descriptors for look in late]
    return Trend(looks[0].name, late[0].mb, late[-1].mb, slope, error, descriptors[0], descriptors[-1], max(descriptors))


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least squares: the slope and its standard error."""
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    left = y - y.mean() - slope * spread
    return slope, float(np.sqrt(left @ left / max(1, len(x) - 2) / (spread @ spread)))


def _line(trend: Trend) -> str:
    size = f"{trend.first_mb:.1f} to {trend.last_mb:.1f} | {trend.mb_per_hour:+.1f} ± {trend.error:.1f}"
    return f"| {trend.process} | {size} | {trend.first_descriptors} to {trend.last_descriptors} ({trend.most_descriptors}) |\n"
