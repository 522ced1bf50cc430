"""`python -m benchmarks.fleet_stack [--models N] [--windows N] [--rate N]`: a whole local stack with many small models.

Brings a stack up with one model, adds the others to it, and measures what all of its processes take: memory (PSS where the
system tells it, else USS), their number, idle CPU. Then windows of some models close at once on rows that have drifted, and it is
measured how long after them each retrained version answers. Then comes a load that is spread unevenly. Writes
benchmarks/results/fleet_stack.json.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import psutil

from benchmarks.fleet import drive, first_body, say
from benchmarks.measure import machine, write_results
from benchmarks.serve.usage import idle_percent, settle, tree
from deployments.foreground import join_stack
from deployments.stack import stack as stacks
from deployments.stack import supervisord
from deployments.stack.state import Stack
from perennial.model import REFERENCE_ROWS
from perennial.settings import Settings
from tests.service.serving import registry_of
from tests.support import models
from tests.support.processes import free_port
from tests.support.waiting import wait_until

RESULTS = Path(__file__).resolve().parent / "results" / "fleet_stack.json"
WEEKS = 6  # of rows that a model whose window will close has learnt
LAST_WEEK = models.START + timedelta(weeks=WEEKS)
IDLE_SECONDS = 20.0
CHAMPION_TIMEOUT = 1_200.0  # seconds for all retrainings, which run one after another
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Footprint:
    """What the processes of a stack take; `parts` is memory by program, the monitor's run with its worker."""

    models: int
    memory_mb: float
    parts: dict[str, float]
    processes: int
    idle_percent: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50, help="models in the stack (default: 50)")
    parser.add_argument("--windows", type=int, default=10, help="models whose window closes at once (default: 10)")
    parser.add_argument("--rate", type=float, default=2_000, help="requests a second (default: 2,000)")
    parser.add_argument("--seconds", type=float, default=20, help="of load (default: 20)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder), given.models, given.windows, given.rate, given.seconds)
    write_results(RESULTS, {"machine": machine(), **record})


def measure(folder: Path, count: int, windows: int, rate: float, seconds: float) -> dict[str, object]:
    names = [f"model-{number}" for number in range(count)]
    specs = prepare(folder, names, windows)
    with running(folder, specs[:1]) as (stack, settings):
        train(specs[:windows], settings)
        ask(stack, names[:1])
        one = say(footprint(stack, 1))
        began = time.monotonic()
        stack, _ = stacks.up(specs, settings, os.environ, datetime.now(UTC))
        added = say(time.monotonic() - began)
        ask(stack, names)
        many = say(footprint(stack, count))
        champions = say(close_windows(stack, names[:windows]))
        load = say(asyncio.run(drive(url_of(stack), names, rate, seconds)))
        after = say(footprint(stack, count))
    return {
        "one": asdict(one),
        "many": asdict(many),
        "added_model_mb": (many.memory_mb - one.memory_mb) / max(1, count - 1),
        "adding_all_s": added,
        "event_to_champion_s": champions,
        "load": asdict(load),
        "after": asdict(after),
    }


def prepare(folder: Path, names: Sequence[str], windows: int) -> list[Path]:
    """The specs; those whose window will close have a table of their own to learn, the others a champion already."""
    trained = models.train_small(models.small_frame(rows=REFERENCE_ROWS), rounds=300)
    (folder / "specs").mkdir()
    specs = [models.write_named(folder / "specs", name) for name in names]
    models.small_frame(rows=24 * 7 * WEEKS, seed=1).write_parquet(folder / "specs" / "rows.parquet")
    for spec in specs[:windows]:
        spec.write_text(spec.read_text() + 'policy.promote = "always"\n')
    for name in names[windows:]:
        models.publish_small(registry_of(folder / "var"), models.named_model(name, model=trained))
    return specs


@contextmanager
def running(folder: Path, specs: Sequence[Path]) -> Iterator[tuple[Stack, Settings]]:
    settings = Settings(home=folder / "var", port=free_port())
    try:
        yield stacks.up(specs, settings, os.environ, datetime.now(UTC))[0], settings
    finally:
        stacks.down(settings)


def train(specs: Sequence[Path], settings: Settings) -> None:
    """The first versions of these models, in this process."""
    join_stack(settings, os.environ)
    from flows.train import train as flow  # Prefect reads the environment when it is imported

    for spec in specs:
        flow(spec=str(spec))


def ask(stack: Stack, names: Sequence[str]) -> None:
    """One request to each model, which loads it; its event time is in the week that will close."""
    for name in names:
        row = json.loads(first_body())["instances"][0]
        post(stack, name, "predict", {"instances": [row | {"event_time": LAST_WEEK.isoformat()}]})


def close_windows(stack: Stack, names: Sequence[str]) -> dict[str, object]:
    """Seconds from the rows that close a drifted week of each model at once to each retrained version."""
    week = models.small_frame(rows=24 * 7, seed=2, start=LAST_WEEK, shift=2.0).with_columns(outcome=1 - pl.col("outcome"))
    later = models.small_frame(rows=3, seed=3, start=LAST_WEEK + timedelta(weeks=1, days=1, hours=1))
    for name in names:
        post(stack, name, "predict", {"instances": models.instances(week)})
        labels = [{"id": row, "label": label} for row, label in week.select("row_id", "outcome").iter_rows()]
        post(stack, name, "feedback", {"labels": labels})
    began = time.monotonic()
    for name in names:
        post(stack, name, "predict", {"instances": models.instances(later)})
    took: dict[str, float] = {}

    def promoted() -> bool:
        for name in names:
            if name not in took and httpx.get(f"{url_of(stack)}/models/{name}/ready", timeout=30).json().get("version") == 2:
                took[name] = round(time.monotonic() - began, 1)
        return len(took) == len(names)

    wait_until(promoted, CHAMPION_TIMEOUT, "every retrained version to answer")
    return {"each": sorted(took.values()), "median": statistics.median(took.values())}


def post(stack: Stack, name: str, path: str, body: dict[str, object]) -> None:
    answer = httpx.post(f"{url_of(stack)}/models/{name}/{path}", json=body, timeout=60)
    assert answer.is_success, answer.text


def url_of(stack: Stack) -> str:
    assert stack.service is not None
    return stack.service.url


def footprint(stack: Stack, count: int) -> Footprint:
    supervisor = supervisord.find_supervisor(stack.state_dir)
    assert supervisor is not None
    settle(supervisor.pid)
    idle = idle_percent(supervisor.pid, IDLE_SECONDS)
    pids = {name: state.pid for name, state in supervisord.states(stack.socket).items()}
    parts = {name: sum(map(memory_mb, tree(pid))) for name, pid in pids.items()} | {"supervisor": memory_mb(supervisor)}
    rounded = {name: round(mb, 1) for name, mb in parts.items()}
    return Footprint(count, round(sum(parts.values()), 1), rounded, len(tree(supervisor.pid)), round(idle, 2))


def memory_mb(process: psutil.Process) -> float:
    """Its share of what it has in memory; shared pages are divided among those that share them, where the system tells."""
    found = process.memory_full_info()
    return float(getattr(found, "pss", found.uss)) / MEGABYTE


if __name__ == "__main__":
    main()
