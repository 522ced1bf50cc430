"""A service whose list of models changes while clients ask: nothing is refused, and nothing of what was answered is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest

from perennial.fleet import write_spec_list
from service.plan import read_served
from tests.service.serving import Serving, registry_of, rows, serving_specs
from tests.support import models
from tests.support.waiting import wait_until

NAMES = ("bike", "flights", "taxi")
CLIENTS = 4
PAUSE = 0.01  # seconds between an answer and the next request of a client, on the same connection
ROLL_TIMEOUT = 120.0
"""Seconds for two workers to be replaced one after the other; each takes a few on a quiet machine."""


@dataclass
class Traffic:
    """What clients with kept-alive connections were answered."""

    answered: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[tuple[Serving, Path]]:
    """Two workers that serve two of three models, and the list that says which."""
    home = tmp_path_factory.mktemp("reload")
    for name in NAMES:
        models.publish_small(registry_of(home), models.named_model(name))
        models.write_named(home, name)
    listed = home / "specs.json"
    write_specs(listed, "bike", "flights")
    with serving_specs(home, store_url, [listed], perennial_workers=2) as service:
        service.store.delete(*(f"perennial:{name}:predictions" for name in NAMES))
        yield service, listed


def write_specs(listed: Path, *names: str) -> None:
    write_spec_list(listed, [listed.parent / f"{name}.toml" for name in names])


def serves(service: Serving, listed: Path, *names: str) -> bool:
    return read_served(listed.parent, int(service.url.rpartition(":")[2])) == names


@contextmanager
def traffic(service: Serving, model: str) -> Iterator[Traffic]:
    """Clients that ask one row after another until the block is left."""
    seen, over, numbers = Traffic(), Event(), count(1_000)

    def ask() -> None:
        [sent] = rows(1)
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not over.wait(PAUSE):
                row = {**sent, "id": f"row-{next(numbers)}"}
                try:
                    answer = client.post(f"/models/{model}/predict", json={"instances": [row]})
                    (seen.answered if answer.is_success else seen.failures).append(row["id"])
                except httpx.HTTPError as error:
                    seen.failures.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(ask) for _ in range(CLIENTS)]
        try:
            yield seen
        finally:
            over.set()
    for client in clients:
        client.result()


def test_a_model_is_added_and_one_removed_under_traffic_and_no_request_fails(fleet: tuple[Serving, Path]) -> None:
    service, listed = fleet
    before = {process.pid for process in service.processes()}
    with traffic(service, "bike") as seen:
        wait_until(lambda: len(seen.answered) > 20, 30, "traffic")
        assert service.client.get("/models/taxi/ready").status_code == 404
        write_specs(listed, "bike", "flights", "taxi")
        wait_until(lambda: serves(service, listed, "bike", "flights", "taxi"), ROLL_TIMEOUT, "taxi to be served")
        taxi = httpx.post(f"{service.url}/models/taxi/predict", json={"instances": rows(1)}, timeout=30)
        write_specs(listed, "bike", "taxi")
        wait_until(lambda: serves(service, listed, "bike", "taxi"), ROLL_TIMEOUT, "flights to be let go")
        gone = httpx.get(f"{service.url}/models/flights/ready", timeout=30)
    assert seen.failures == []
    assert (taxi.status_code, gone.status_code) == (200, 404)
    wait_until(lambda: set(seen.answered) <= set(service.logged_ids("bike")), 30, "the log to have every answer")
    after = {process.pid for process in service.processes()}
    assert (len(after), len(before & after)) == (len(before), len(before) - 2)


def test_a_list_that_cannot_be_served_changes_nothing_and_is_logged(fleet: tuple[Serving, Path]) -> None:
    service, listed = fleet
    write_specs(listed, "bike", "nowhere")
    wait_until(lambda: "what was served is served on: no spec at" in service.log.read_text(), 30, "the log to say so")
    assert httpx.get(f"{service.url}/models/bike/ready", timeout=30).status_code == 200
