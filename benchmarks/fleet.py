"""`python -m benchmarks.fleet [--models N] [--rate N]`: one service with many models, beside one with one of them.

Measures the memory of the service's processes (USS: what would be free without them), their number and their threads, the time
of a first request (which loads its model), idle CPU, and answers under a load that is spread unevenly (model k is asked 1/k as
often as the first). An answer's time counts from the planned time of its request. Writes benchmarks/results/fleet.json.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from benchmarks.measure import machine, write_results
from benchmarks.serve.usage import idle_percent, tree
from perennial.model import REFERENCE_ROWS
from tests.service.serving import Serving, registry_of, serving_specs
from tests.support import models
from tests.support.store import valkey

Shown = TypeVar("Shown")

RESULTS = Path(__file__).resolve().parent / "results" / "fleet.json"
CONNECTIONS = 32
ROUNDS = 300  # trees of each model, with 7 leaves each
IDLE_SECONDS = 10.0
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Footprint:
    """What the processes of a service take."""

    models: int
    memory_mb: float
    processes: int
    threads: int
    idle_percent: float


@dataclass(frozen=True)
class Load:
    """What clients saw; times in milliseconds, from the planned time of a request to its answer."""

    asked_rps: float
    rps: float
    p50_ms: float
    p99_ms: float
    failed: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50, help="models in the service (default: 50)")
    parser.add_argument("--rate", type=float, default=2_000, help="requests a second (default: 2,000)")
    parser.add_argument("--seconds", type=float, default=20, help="of load (default: 20)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder)) as url:
        record = measure(Path(folder), url, given.models, given.rate, given.seconds)
    write_results(RESULTS, {"machine": machine(), **record})


def measure(folder: Path, store_url: str, count: int, rate: float, seconds: float) -> dict[str, object]:
    names = [f"model-{number}" for number in range(count)]
    with hosted(folder / "one", store_url, names[:1]) as service:
        one = say(footprint(service, 1))
    with hosted(folder / "many", store_url, names) as service:
        first = [first_request(service, name) for name in names]
        many = say(footprint(service, count))
        load = say(asyncio.run(drive(service.url, names, rate, seconds)))
    each = (many.memory_mb - one.memory_mb) / max(1, count - 1)
    say(f"an added model: {each:.1f} MB; its first request: {statistics.median(first):.0f} ms, at most {max(first):.0f} ms")
    return {"one": asdict(one), "many": asdict(many), "added_model_mb": each, "first_request_ms": first, "load": asdict(load)}


@contextmanager
def hosted(home: Path, store_url: str, names: Sequence[str]) -> Iterator[Serving]:
    """A service of small models with these names, each with a champion."""
    home.mkdir(parents=True)
    trained = models.train_small(models.small_frame(rows=REFERENCE_ROWS), rounds=ROUNDS)
    for name in names:
        models.publish_small(registry_of(home), models.named_model(name, model=trained))
    specs = [models.write_named(home, name) for name in names]
    with serving_specs(home, store_url, specs) as service:
        yield service


def first_request(service: Serving, name: str) -> float:
    """Milliseconds of the request that loads a model."""
    began = time.perf_counter()
    httpx.post(
        f"{service.url}/models/{name}/predict", content=first_body(), headers={"content-type": "application/json"}, timeout=60
    )
    return 1_000 * (time.perf_counter() - began)


def footprint(service: Serving, count: int) -> Footprint:
    idle = idle_percent(service.process.pid, IDLE_SECONDS)
    processes: list[psutil.Process] = tree(service.process.pid)
    memory = sum(process.memory_full_info().uss for process in processes) / MEGABYTE
    return Footprint(count, round(memory, 1), len(processes), sum(one.num_threads() for one in processes), round(idle, 2))


async def drive(url: str, names: Sequence[str], rate: float, seconds: float) -> Load:
    """Ask at planned times over some connections, the models in proportion to 1, 1/2, 1/3, ..."""
    chance, count = random.Random(0), int(rate * seconds)
    weights = [1 / (place + 1) for place in range(len(names))]
    plan = iter(enumerate(chance.choices([request(name) for name in names], weights, k=count)))
    host, port = url.removeprefix("http://").split(":")
    times: list[float] = []
    failed = 0
    began = time.perf_counter() + 0.2

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, int(port))
        for number, sent in plan:
            planned = began + number / rate
            await asyncio.sleep(max(0.0, planned - time.perf_counter()))
            writer.write(sent)
            failed += await status(reader) != b"200"
            times.append(time.perf_counter() - planned)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    took = time.perf_counter() - began
    p50, p99 = (1_000 * statistics.quantiles(times, n=100)[place - 1] for place in (50, 99))
    return Load(rate, round(count / took, 1), round(p50, 2), round(p99, 2), failed)


async def status(reader: asyncio.StreamReader) -> bytes:
    """The status of the next answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head.split(b" ")[1]


def request(name: str) -> bytes:
    head = f"POST /models/{name}/predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(first_body())}\r\n\r\n".encode() + first_body()


def first_body() -> bytes:
    return b'{"instances": [{"amount": 0.25, "shop": "north"}]}'


def say(value: Shown) -> Shown:
    sys.stdout.write(f"{value}\n")
    return value


if __name__ == "__main__":
    main()
