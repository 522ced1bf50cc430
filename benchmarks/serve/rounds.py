"""The rounds: every server in turn, alone on the machine, again and again, so that a slow minute hits none alone."""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from benchmarks.serve.aims import OURS
from benchmarks.serve.bodies import make_bodies
from benchmarks.serve.errors import BenchError
from benchmarks.serve.figures import Measured, Round
from benchmarks.serve.hosting import Hosted, hosted
from benchmarks.serve.load import Bodies, Report, post
from benchmarks.serve.logged import drop_logged, take_logged
from benchmarks.serve.servers import Ground, Server
from benchmarks.serve.usage import busy_seconds, cpu_seconds, idle_percent, settle

CONNECTIONS = (1, 16, 64)
SIZES = (100, 1_000, 10_000)
BULK_CONNECTIONS = 4
"""Enough to keep two processes busy; more only make a queue of big bodies."""

WARM_UP = 1.0
"""Seconds of unmeasured load, in which caches fill and threads start."""


@dataclass(frozen=True)
class Plan:
    """What is measured: `seconds` of each load."""

    servers: Sequence[Server]
    rounds: int
    seconds: float
    with_bulk: bool


def run(plan: Plan, ground: Ground) -> list[Round]:
    """Measure everything; raises BenchError when a server fails one request."""
    with redis.Redis.from_url(ground.store_url, socket_timeout=60) as store:
        return [_round(plan, ground, store, number) for number in range(1, plan.rounds + 1)]


def _round(plan: Plan, ground: Ground, store: redis.Redis, number: int) -> Round:
    found, store_pid = Round(), int(store.info("server")["process_id"])
    for server in plan.servers:
        sys.stderr.write(f"round {number} of {plan.rounds}: {server.name}\n")
        store.flushall()
        with hosted(server, ground) as host:
            asker = _Asker(host, plan, store, store_pid)
            if server.name == OURS:
                found.idle[server.name] = asker.idle()
            found.single[server.name] = asker.single()
            if plan.with_bulk and server.in_bulk:
                found.bulk |= asker.bulk()
    return found


class _Asker:
    """Asks one server everything there is to ask."""

    def __init__(self, host: Hosted, plan: Plan, store: redis.Redis, store_pid: int) -> None:
        self._host = host
        self._seconds = plan.seconds
        self._store = store
        self._store_pid = store_pid

    def idle(self) -> float:
        """Before the first request: nothing is left to do."""
        settle(self._host.pid)
        return idle_percent(self._host.pid, self._seconds)

    def single(self) -> dict[int, Measured]:
        """One row a request, by connections."""
        bodies = self._bodies(self._host.server.form, 1)
        self._post(bodies, CONNECTIONS[-1], WARM_UP)
        return {connections: self._measure(bodies, connections) for connections in CONNECTIONS}

    def bulk(self) -> dict[str, dict[int, Measured]]:
        """Many rows a request, by server and rows."""
        server = self._host.server
        return {server.name: {rows: self._measure(self._bodies(server.form, rows), BULK_CONNECTIONS) for rows in SIZES}}

    def _bodies(self, form: str, rows: int) -> Bodies:
        if not self._host.takes(form, rows):
            raise BenchError(f"{self._host.server.name} does not take {rows} rows as {form}")
        return make_bodies(self._host.ground.subject, form, rows, self._host.ground.work)

    def _measure(self, bodies: Bodies, connections: int) -> Measured:
        settle(self._host.pid)
        drop_logged(self._store, self._host.server.stream)
        meter = _Meter(self._host.pid, self._store_pid)
        report = self._post(bodies, connections, self._seconds)
        found = meter.read(report)
        where = f"{self._host.server.name}, {connections} connections, {bodies.rows} rows"
        take_logged(self._store, self._host.server.stream, report.requests * bodies.rows, where)
        return found

    def _post(self, bodies: Bodies, connections: int, seconds: float) -> Report:
        return post(self._host.url, bodies, connections, seconds)


class _Meter:
    """Processor time from its making to its reading."""

    def __init__(self, pid: int, store_pid: int) -> None:
        self._pids = (pid, store_pid)
        self._before = self._now()

    def read(self, report: Report) -> Measured:
        """What the load was answered with, and what that took."""
        clock, server, store, busy, load = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return Measured(
            rps=report.rps,
            p50_ms=report.p50_ms,
            p99_ms=report.p99_ms,
            cpu_us_per_request=1e6 * server / report.requests,
            store_us_per_request=1e6 * store / report.requests,
            foreign_cores=max(0.0, busy - server - store - load) / clock,
        )

    def _now(self) -> tuple[float, ...]:
        server, store = map(cpu_seconds, self._pids)
        return time.monotonic(), server, store, busy_seconds(), _load_seconds()


def _load_seconds() -> float:
    """Of this process and of each wrk it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
