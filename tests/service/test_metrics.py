"""Metrics are right across processes: what clients count themselves is what is shown, to the last request."""

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.serving import Serving, registry_of, rows, serving
from tests.support import models
from tests.support.waiting import wait_until

CLIENTS, ROUNDS = 4, 12
UNKNOWN, NULL = {"amount": 1.0, "shop": "mars"}, {"amount": None, "shop": None}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """Two workers that no other test asks anything."""
    home = tmp_path_factory.mktemp("metrics")
    models.publish_small(registry_of(home), models.small_model())
    with serving(home, store_url, perennial_workers=2, perennial_max_body_mb=0.1) as running:
        wait_until(lambda: running.versions() == [1, 1], 30, "both workers to answer")
        yield running


class Counted:
    """What the service shows, as {sample name and labels: value}."""

    def __init__(self, service: Serving) -> None:
        text = service.client.get("/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        self._values = {(one.name, *sorted(one.labels.items())): one.value for one in samples}

    def __call__(self, name: str, **labels: str) -> float:
        return sum(
            value for (own, *given), value in self._values.items() if own == name and labels.items() <= dict(given).items()
        )


class Client:
    """One client, and what it counts."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self._number = number
        self.requests: Counter[tuple[str, int]] = Counter()
        self.rows: Counter[str] = Counter()

    def live(self) -> "Client":
        # A connection for each round, so that both processes are asked by every client.
        for number in range(ROUNDS):
            with httpx.Client(base_url=self._url, timeout=60) as self._http:
                self._round(1_000 * self._number + 10 * number)
        return self

    def _round(self, start: int) -> None:
        self._predict([*rows(3, start), UNKNOWN, NULL, {**UNKNOWN, "amount": None}], unknown=2, amount=2, shop=1)
        self._predict([UNKNOWN], unknown=1)
        self._predict([NULL] * 100, amount=100, shop=100)
        self._predict(rows(1, start))
        self._count("/predict", self._http.post("/predict", json={"instances": [{"amount": "x"}]}))
        self._count("/predict", self._http.post("/predict", content=b"x" * 150_000))
        self._count("/explain", self._http.post("/explain", json={"instances": rows(2)}))
        told = self._http.post("/feedback", json={"labels": [{"id": f"{start}", "label": 1}, {"id": f"{start + 1}", "label": 0}]})
        self._count("/feedback", told, labels=2)
        self._count("/model", self._http.get("/model"))
        self._count("other", self._http.get(f"/nothing/{start}"))
        self._count("other", self._http.get("/docs"))

    def _predict(self, sent: list[dict[str, Any]], **counted: int) -> None:
        self._count("/predict", self._http.post("/predict", json={"instances": sent}), rows=len(sent), **counted)

    def _count(self, route: str, response: httpx.Response, **counted: int) -> None:
        self.requests[route, response.status_code] += 1
        self.rows.update(counted)


def test_what_clients_count_is_what_is_shown(service: Serving) -> None:
    before = Counted(service)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = list(pool.map(lambda number: Client(service.url, number).live(), range(CLIENTS)))
    requests = sum((client.requests for client in clients), Counter[tuple[str, int]]())
    counted = sum((client.rows for client in clients), Counter[str]())
    after = Counted(service)

    def grown(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    for (route, code), count in requests.items():
        assert grown("perennial_requests_total", route=route, code=str(code)) == count, (route, code)
    for route in {route for route, _ in requests}:
        total = sum(count for (own, _), count in requests.items() if own == route)
        assert grown("perennial_requests_total", route=route) == total, "and no code that no client has seen"
        assert grown("perennial_request_seconds_count", route=route) == total
        assert grown("perennial_request_seconds_bucket", route=route, le="+Inf") == total
        assert 0 < grown("perennial_request_seconds_sum", route=route) < 60 * total
    assert grown("perennial_predictions_total") == counted["rows"]
    assert grown("perennial_unknown_categories_total", feature="shop") == counted["unknown"]
    assert [grown("perennial_nulls_total", feature=name) for name in ("amount", "shop")] == [counted["amount"], counted["shop"]]
    assert grown("perennial_labels_total") == counted["labels"]
    assert after("perennial_in_flight") == 1, "the request that asks"
    wait_until(lambda: Counted(service)("perennial_log_written_total") >= counted["rows"], 20, "the log to be written")
    assert Counted(service)("perennial_log_written_total") == counted["rows"]


def test_what_is_in_flight_is_shown_and_bounded(tmp_path: Path, store_url: str) -> None:
    """While requests wait for the rest of their bodies, what comes beyond the bound is refused at once."""
    models.publish_small(registry_of(tmp_path), models.small_model())
    with serving(tmp_path, store_url, perennial_max_in_flight=4) as service, ExitStack() as held:
        slow = [held.enter_context(unfinished(service.url)) for _ in range(4)]
        wait_until(lambda: service.metric("perennial_in_flight") == 4 + 1, 20, "four requests to be in flight")
        assert {_status(service.url) for _ in range(6)} == {(503, "1")}
        assert service.client.get("/health").status_code == 200
        for client in slow:
            client.sendall(b"}")
        assert [client.recv(4096).split(b" ")[1] for client in slow] == [b"422"] * 4
        assert _status(service.url) == (200, "")
        assert service.metric("perennial_requests_total", route="/predict", code="503") == 6


def test_a_file_that_a_process_had_no_time_to_begin_is_left_out(service: Serving) -> None:
    """prometheus_client makes a file and gives it its size in two steps; a process may be killed between them."""
    (metrics,) = service.log.parent.glob("small/service/metrics-*")
    before, empty = Counted(service)("perennial_requests_total"), metrics / "counter_999999.db"
    empty.touch()
    try:
        assert Counted(service)("perennial_requests_total") > before > 0
    finally:
        empty.unlink()


@contextmanager
def unfinished(url: str) -> Iterator[socket.socket]:
    """A request whose body lacks its last byte."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{")
        yield client


def _status(url: str) -> tuple[int, str]:
    response = httpx.post(f"{url}/predict", json={"instances": rows(1)}, timeout=60)
    return response.status_code, response.headers.get("retry-after", "")


def test_versions_and_swaps_are_shown(service: Serving) -> None:
    swaps = service.metric("perennial_swaps_total")
    models.publish_small(service.registry, models.small_model(seed=1))
    wait_until(lambda: service.versions() == [2, 2], 30, "both workers to answer with version 2")
    assert service.metric("perennial_swaps_total") == swaps + 2
