"""Hot swap under load: no request fails, and every answer's score is that of the version it names."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.service.serving import Serving, registry_of, rows, serving
from tests.service.test_http_contract import frame_of
from tests.support import models
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until

CLIENTS = 4
SWAPS = 6


class Traffic:
    """What clients got while they kept asking: (version, scores) of each answer, and everything that was not one."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, tuple[float, ...]]] = []
        self.failures: list[str] = []


@contextmanager
def traffic(service: Serving, sent: list[dict[str, Any]]) -> Iterator[Traffic]:
    """Clients that ask the same rows over and over until the block is left."""
    got, stop = Traffic(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not stop.is_set():
                _ask_once(client, sent, got)

    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            yield got
        finally:
            stop.set()
    for future in futures:
        future.result()


def _ask_once(client: httpx.Client, sent: list[dict[str, Any]], got: Traffic) -> None:
    try:
        response = client.post("/predict", json={"instances": sent})
    except httpx.HTTPError as error:
        got.failures.append(repr(error))
        return
    if response.status_code != 200:
        got.failures.append(response.text)
        return
    body = response.json()
    got.answers.append((body["version"], tuple(one["score"] for one in body["predictions"])))


def test_swaps_under_load_lose_no_request_and_mix_no_versions(tmp_path: Path, store_url: str) -> None:
    registry, sent = registry_of(tmp_path), [{key: row[key] for key in ("amount", "shop")} for row in rows(3)]
    models.publish_small(registry, models.small_model(seed=1))
    with serving(tmp_path, store_url, perennial_workers=2, perennial_watch_interval=0.05) as service:
        with traffic(service, sent) as got:
            wait_until(lambda: got.answers, 30, "an answer of version 1")
            for seed in range(2, SWAPS + 2):
                version = models.publish_small(registry, models.small_model(seed=seed))
                live = [version, version]
                wait_until(lambda live=live: service.versions() == live, 30, f"version {version} to be live in both workers")
                wait_until(lambda version=version: got.answers and got.answers[-1][0] == version, 30, "an answer of it")
        assert got.failures == []
    frame = frame_of(rows(3))
    expected = {seed: tuple(models.small_model(seed=seed).predict_frame(frame).tolist()) for seed in range(1, SWAPS + 2)}
    assert {version for version, _ in got.answers} == set(expected)
    assert len(set(expected.values())) == SWAPS + 1, "the versions tell themselves apart"
    assert [answer for answer in got.answers if answer[1] != expected[answer[0]]] == []


def test_the_service_starts_without_a_champion_and_takes_the_first_one(tmp_path: Path, store_url: str) -> None:
    with serving(tmp_path, store_url) as service:
        refused = service.predict(rows(1))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_model")
        assert refused.headers["retry-after"] == "1"
        assert service.client.get("/model").status_code == 503
        assert service.client.get("/ready").status_code == 503
        assert service.client.get("/health").json() == {"status": "ok", "model": "small", "champion": None}
        models.publish_small(service.registry, models.small_model())
        wait_until(lambda: service.predict(rows(1)).status_code == 200, 20, "the first champion to answer")


def test_a_bad_version_is_refused_and_reported_while_the_old_one_answers(
    tmp_path: Path, store_url: str, sentry: SentryReceiver
) -> None:
    registry = registry_of(tmp_path)
    models.publish_small(registry, models.small_model())
    with serving(tmp_path, store_url, sentry_dsn=sentry.dsn) as service:
        bad = models.publish_small(registry, models.small_model(seed=1), promote=False)
        trees = tmp_path / "registry" / "models" / "small" / "versions" / str(bad) / "model.txt"
        trees.write_bytes(trees.read_bytes()[:-100])
        registry.promote("small", "champion", bad, expect=1, reason="test", now=models.small_model().card.trained_at)
        wait_until(lambda: service.metric("perennial_versions_refused_total") == 1, 20, "the bad version to be refused")
        assert service.predict(rows(1)).json()["version"] == 1
        assert "model.txt does not match its manifest" in service.log.read_text()
        info = service.client.get("/model").json()
        assert info["version"] == 1
        assert "version 2 of 'small' is champion, and it is refused" in info["refused"]
        assert "model.txt does not match its manifest" in info["refused"]
        (event,) = sentry.wait_for(1)
        assert event["exception"]["values"][-1]["type"] == "CorruptVersion"
        assert event["tags"]["model"] == "small"
        assert event["tags"]["refused_version"] == str(bad)
        models.publish_small(registry, models.small_model(seed=2))
        wait_until(lambda: service.predict(rows(1)).json()["version"] == 3, 20, "the next good version to answer")
        assert service.client.get("/model").json()["refused"] is None
