"""The embedded Prefect server answers all who write at the same time, and collects its garbage where that may wait."""

import gc
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from deployments.prefect_client import PrefectClient
from deployments.stack.prefect_server import start_collector_thread
from tests.deployments.conftest import deployed
from tests.support.prefect_server import prefect_server
from tests.support.waiting import wait_until

NAME = "contended"
WRITERS, ROUNDS = 4, 10
"""Of these 120 requests 67 and 70 were refused, in two runs, when transactions asked for the lock only when they wrote."""
PATIENCE = 30.0
"""Seconds; a standstill lasts the 60 s for which SQLite waits for a lock."""


class Loop:
    """Garbage that only the collector finds, and that tells in which thread it was found."""

    def __init__(self, found: list[str]) -> None:
        self.found, self.itself = found, self

    def __del__(self) -> None:
        self.found.append(threading.current_thread().name)


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    yield stop
    stop.set()
    gc.enable()


def test_garbage_is_collected_in_a_thread_of_its_own(stop: threading.Event) -> None:
    thread = start_collector_thread(stop, interval=timedelta(seconds=0.01))
    found: list[str] = []
    Loop(found)
    wait_until(lambda: found, 30, "the garbage to be found")
    stop.set()
    thread.join(30)
    assert (found, thread.is_alive(), gc.isenabled()) == (["garbage"], False, False)


def test_writers_wait_for_each_other_and_none_is_refused(tmp_path: Path) -> None:
    with prefect_server(tmp_path) as url, PrefectClient(url, {}) as api, ThreadPoolExecutor(WRITERS) as pool:
        deployment = deployed(api, NAME)
        seen = sum(pool.map(lambda _: _write(url, deployment), range(WRITERS)), Counter[int]())
    assert set(seen) <= {201, 204}, seen


def _write(url: str, deployment: str) -> Counter[int]:
    """What writes that read first are answered; raises when one of them gets no answer."""
    seen: Counter[int] = Counter()
    for number in range(ROUNDS):
        for method, path, body in (
            ("PATCH", f"deployments/{deployment}", {"description": str(number)}),
            ("POST", f"work_pools/{NAME}/workers/heartbeat", {"name": "w"}),
            ("POST", "flows/", {"name": f"f-{threading.get_ident()}-{number}"}),
        ):
            seen[httpx.request(method, f"{url}/{path}", json=body, timeout=PATIENCE).status_code] += 1
    return seen
