"""A rolling upgrade under traffic: what an earlier release left is taken over, and nothing that was asked meanwhile is lost.

Two replicas of the service and a monitor on one store, and clients behind a load balancer that asks `/ready`, as Kubernetes does.
The first replica has the home that an earlier release left (tests/fixtures), with its streams and the disk queue of a process
that was killed. Then each is replaced: one replica, the monitor in the middle of a batch, the other replica.
"""

import base64
import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from monitoring.consumer import StreamConsumer
from perennial.log_columns import ID
from perennial.registry import CHAMPION
from service.prediction_log.streams import predictions_stream
from tests.service.serving import rows
from tests.support.models import START
from tests.support.processes import ROOT, free_port, python, running
from tests.support.waiting import wait_until
from tests.support.whole_home import STREAMS, archive, registry

KEPT = sorted((ROOT / "tests" / "fixtures").glob("home-*"))
CLIENTS, ROWS = 2, 5
PAUSE = 0.1  # seconds between two requests of a client
LOOK = 0.05  # seconds between two looks of the balancer; that between SIGTERM and the end of a replica is PERENNIAL_LAME_DUCK
ENOUGH = 10
"""Requests that are answered between two replacements."""


class Balancer:
    """Sends requests to the replicas that say they are ready, in turn."""

    def __init__(self) -> None:
        self.replicas: dict[str, str] = {}
        self.ready: tuple[str, ...] = ()
        self.answered: list[tuple[str, int]] = []
        self.failures: list[str] = []
        self._over = threading.Event()

    def look(self) -> None:
        """Until the end: which replicas are ready."""
        with httpx.Client(timeout=1) as client:  # Kubernetes' patience with a probe
            while not self._over.wait(LOOK):
                self.ready = tuple(url for url in tuple(self.replicas.values()) if _is_ready(client, url))

    def ask(self, number: int) -> None:
        """One client: asks until the end, each time for rows that nobody has asked for."""
        with httpx.Client(timeout=30) as client:
            for turn in itertools.count():
                if self._over.wait(PAUSE):
                    return
                self._ask(client, ROWS * (CLIENTS * turn + number), turn)

    def end(self) -> None:
        """No more requests."""
        self._over.set()

    def _ask(self, client: httpx.Client, first: int, turn: int) -> None:
        ready, sent = self.ready, rows(ROWS, start=first)
        try:
            answer = client.post(f"{ready[turn % len(ready)]}/predict", json={"instances": [asked_now(row) for row in sent]})
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        if answer.status_code == httpx.codes.OK:
            self.answered += [(one["id"], answer.json()["version"]) for one in answer.json()["predictions"]]
        else:
            self.failures.append(answer.text)


class Monitor:
    """A monitor's consumer in a thread of its own."""

    def __init__(self, store: redis.Redis, home: Path) -> None:
        self._store, self._home, self._over = store, home, threading.Event()
        self.unreadable = 0

    def run(self, *, dies: bool) -> None:
        """Archive until the end; one that dies has read a batch then and acknowledges nothing of it."""
        consumer, log = StreamConsumer(self._store, "small"), archive(self._home)
        consumer.ensure_groups()
        while (batch := consumer.read_pending(100)).entries:
            self.unreadable += consumer.ingest(batch, log).unreadable
        while not self._over.is_set():
            self.unreadable += consumer.ingest(consumer.read(100), log).unreadable
        if dies:
            wait_until(lambda: consumer.read(100).entries, 30, "a batch that dies with the monitor")

    def end(self) -> None:
        """Stop reading."""
        self._over.set()


def asked_now(row: dict[str, Any]) -> dict[str, Any]:
    """The row under an id and in a week that the kept home has not seen."""
    return row | {"id": f"new-{row['id']}", "event_time": START.replace(month=3).isoformat()}


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def replica(name: str, home: Path, kept: Path, store_url: str, balancer: Balancer) -> Iterator[None]:
    """A service with a home of its own on the registry of the kept one, behind the balancer until the block is left."""
    port = free_port()
    where = {"REDIS_URL": store_url, "PERENNIAL_HOME": str(home), "PERENNIAL_PORT": str(port), "PERENNIAL_LAME_DUCK": "2"}
    where |= {"PERENNIAL_REGISTRY": str(kept / "registry"), "PERENNIAL_WORKERS": "1"}
    home.mkdir(exist_ok=True)
    with running(python("-m", "service", "--spec", str(kept / "small.toml")), home / "service.log", where):
        balancer.replicas[name] = url = f"http://127.0.0.1:{port}"
        wait_until(lambda: url in balancer.ready, 60, f"replica {name} to be ready")
        yield


def enough(balancer: Balancer) -> None:
    before = len(balancer.answered)
    wait_until(lambda: len(balancer.answered) >= before + ENOUGH * ROWS or balancer.failures, 60, "requests to be answered")


@pytest.mark.parametrize("left", KEPT, ids=lambda path: path.name)
def test_replicas_and_monitor_are_replaced_without_a_failed_request_or_a_lost_prediction(
    left: Path, tmp_path: Path, store: redis.Redis, store_url: str
) -> None:
    kept = tmp_path / "var"
    shutil.copytree(left, kept)
    before = archive(kept).counts().predictions
    for entry in json.loads((kept / STREAMS).read_text()):
        fields: Any = {name: base64.b64decode(value) for name, value in entry["fields"].items()}
        store.xadd(entry["stream"], fields)
    balancer, old, new = Balancer(), Monitor(store, kept), Monitor(store, kept)
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.callback(lambda: [one.end() for one in (balancer, old, new)])
        threads = [pool.submit(balancer.look), pool.submit(old.run, dies=True)]
        first, second = stack.enter_context(ExitStack()), stack.enter_context(ExitStack())
        first.enter_context(replica("a", kept, kept, store_url, balancer))
        second.enter_context(replica("b", tmp_path / "b", kept, store_url, balancer))
        threads += [pool.submit(balancer.ask, number) for number in range(CLIENTS)]
        enough(balancer)
        first.close()
        first.enter_context(replica("a", kept, kept, store_url, balancer))
        enough(balancer)
        old.end()
        threads[1].result()
        threads.append(pool.submit(new.run, dies=False))
        second.close()
        second.enter_context(replica("b", tmp_path / "b", kept, store_url, balancer))
        enough(balancer)
        balancer.end()
        first.close(), second.close()  # what they hold is published before they end
        wait_until(lambda: store.xlen(predictions_stream("small")) == 0, 30, "everything to be archived")
        new.end()
        for thread in threads:
            thread.result()
    asked = [name for name, _ in balancer.answered]
    assert balancer.failures == []
    assert {version for _, version in balancer.answered} == {registry(kept).aliases("small").positions[CHAMPION]}
    archived = archive(kept).scan().select(ID).collect()[ID].to_list()
    assert sorted(name for name in archived if name.startswith("new-")) == sorted(asked), "each once"
    assert len(archived) == before + len(asked) + 10, "and the rows that the release before had left in its stream and its queue"
    assert old.unreadable + new.unreadable == 0
