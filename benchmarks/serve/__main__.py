"""`python -m benchmarks.serve`: prints tables and writes benchmarks/results/serve.json, or soak.json with `--soak`."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from benchmarks.serve.aims import OURS, judge
from benchmarks.serve.errors import BenchError
from benchmarks.serve.figures import document
from benchmarks.serve.hosting import hosted
from benchmarks.serve.load import find_wrk
from benchmarks.serve.machine import facts
from benchmarks.serve.rounds import Plan, run
from benchmarks.serve.servers import QUICK, SERVERS, Ground, Server, baseline, commands_of, named
from benchmarks.serve.soak import soak
from benchmarks.serve.subject import make_subject
from benchmarks.serve.table import render
from tests.support.store import valkey

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Measure; an error a person can fix is one line, not a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    _forget_own_settings()
    try:
        _measure(_arguments())
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; nothing was written\n")
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    names = [server.name for server in SERVERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description="Measure the service against others.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds of each load (default: 5)")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--servers", nargs="+", choices=names, help="only these")
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="also the service of another checkout that has a .venv")
    parser.add_argument("--no-bulk", action="store_true", help="only requests of one row")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: steady load on perennial, its memory watched")
    return parser.parse_args()


def _measure(given: argparse.Namespace) -> None:
    servers = _chosen(given)
    find_wrk()
    for server in servers:
        commands_of(server)  # before anything is measured: it may take minutes
    with tempfile.TemporaryDirectory(prefix="perennial-bench-") as folder, valkey(Path(folder)) as store_url:
        home = Path(folder) / "home"
        home.mkdir()
        sys.stderr.write("training the model\n")
        ground = Ground(make_subject(home), store_url, Path(folder))
        if given.soak:
            _soak(ground, given.soak)
        else:
            _compare(Plan(servers, given.rounds, given.seconds, not given.no_bulk), ground)


def _compare(plan: Plan, ground: Ground) -> None:
    rounds, machine = run(plan, ground), facts(plan.seconds)
    _write("serve.json", {**document(rounds, machine), "aims": [verdict.record() for verdict in judge(rounds)]})
    sys.stdout.write(render(rounds, {server.name: server.title for server in plan.servers}, machine))


def _soak(ground: Ground, minutes: float) -> None:
    with redis.Redis.from_url(ground.store_url, socket_timeout=60) as store, hosted(named(OURS), ground) as host:
        found = soak(host, store, minutes)
    _write("soak.json", {"machine": facts(60 * minutes), **found.record()})
    sys.stdout.write(found.render())


def _write(name: str, results: Mapping[str, object]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(results, indent=2) + "\n")


def _chosen(given: argparse.Namespace) -> Sequence[Server]:
    if given.soak:
        return [named(OURS)]
    names = given.servers or (QUICK if given.quick else [server.name for server in SERVERS])
    others = [baseline(given.baseline.absolute(), processes) for processes in (1, 2)] if given.baseline else []
    return [*(named(name) for name in names), *others]


def _forget_own_settings() -> None:
    """A person's settings of the service are not those that are measured."""
    for name in [name for name in os.environ if name.startswith(("PERENNIAL_", "SENTRY_", "OMP_"))]:
        del os.environ[name]


if __name__ == "__main__":
    sys.exit(main())
