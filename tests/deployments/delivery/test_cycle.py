"""The cycle with two real replicas behind nginx, where that is installed, while clients keep asking: `make check-delivery`."""

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from deployments.delivery import replicas
from deployments.delivery.canary import Rollout
from deployments.delivery.proxy import find_nginx
from deployments.delivery.replicas import Delivery
from deployments.delivery.smoke import smoke
from tests.service.serving import registry_of, rows
from tests.support import models
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif("TEST_DELIVERY" not in os.environ, reason="it takes a minute: make check-delivery")

BROKEN = {  # releases with one line altered: the file, the line, and what it becomes
    "does not start": ("service/__main__.py", "import sys\n", "import sys\nraise SystemExit(3)\n"),
    "scores otherwise": (
        "perennial/model.py",
        "return self.estimator.predict(matrix)",
        "return self.estimator.predict(matrix) / 2",
    ),
    "fails requests": (
        "service/inference/predictor.py",
        "            answers = _predictions(requests)",
        "            answers = _predictions(requests[1 // 0 :])",
    ),
}


def release(directory: Path, change: tuple[str, str, str] | None = None) -> str:
    """An interpreter that runs a copy of the product, in which one line may be another."""
    for package in ("perennial", "service"):
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    if change:
        file, old, new = change
        source = (directory / file).read_text()
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {file}"
        (directory / file).write_text(source.replace(old, new))
    script = directory / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{directory}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("delivery")
    models.write_small(home)
    models.publish_small(registry_of(home), models.small_model())
    return home


@pytest.fixture(scope="module")
def rollout(home: Path) -> Rollout:
    return Rollout(registry_of(home), {}, timedelta(seconds=5), print)


@pytest.fixture(scope="module")
def delivery(home: Path, rollout: Rollout, store_url: str) -> Iterator[Delivery]:
    planned = replicas.plan_delivery(home, home / "small.toml", sys.executable).model_copy(update={"run_in": home})
    replicas.start(planned, {**os.environ, "REDIS_URL": store_url, "PERENNIAL_HOME": str(home)})
    try:
        for replica in planned.replicas:
            assert rollout.await_ready(replica, planned) == []
        yield planned
    finally:
        replicas.stop(planned)


class Clients:
    """A client that asks on and on, twenty times a second at most, and what it was told."""

    def __init__(self, delivery: Delivery) -> None:
        port = delivery.proxy_port or delivery.replicas[0].port  # without a proxy, of the replica that is changed last
        self.url = f"http://127.0.0.1:{port}/predict"
        self.answers, self.failures = 0, list[str]()
        self._over = Event()
        self._thread = Thread(target=self._ask)

    def await_more(self) -> None:
        count = self.answers
        wait_until(lambda: self.answers > count + 3, 60, "the client to be answered")

    def __enter__(self) -> "Clients":
        self._thread.start()
        self.await_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.05):
            try:
                response = httpx.post(self.url, json={"instances": rows(3)}, timeout=60)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if response.status_code == 200:
                self.answers += 1
            else:
                self.failures.append(response.text)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_release_is_rolled_back_and_no_request_is_lost(
    delivery: Delivery, rollout: Rollout, tmp_path: Path, fault: str
) -> None:
    if fault == "fails requests" and find_nginx() is None:
        pytest.skip("without nginx the canary gets no requests to fail")
    with Clients(delivery) as clients:
        after, outcome = rollout.deliver(delivery, release(tmp_path, BROKEN[fault]))
        clients.await_more()
    assert outcome.problems
    assert clients.failures == []
    assert {one.release for one in after.replicas} == {sys.executable}
    assert after.previous is None
    for replica in after.replicas:
        assert smoke(replica.url, {}, rollout.registry) == []


def test_a_good_release_reaches_every_replica_and_can_be_taken_back(delivery: Delivery, rollout: Rollout, tmp_path: Path) -> None:
    good = release(tmp_path)
    with Clients(delivery) as clients:
        after, outcome = rollout.deliver(delivery, good)
        assert outcome.problems == ()
        assert {one.release for one in after.replicas} == {good}
        assert after.previous == sys.executable
        assert outcome.requests > 0 or find_nginx() is None
        assert replicas.load_delivery(delivery.directory.parent) == after
        if after.proxy_port is None:
            return  # the clients' replica was started anew
        back, _ = rollout.deliver(after, sys.executable)
        assert {one.release for one in back.replicas} == {sys.executable}
    assert clients.failures == []
    assert httpx.get(f"http://127.0.0.1:{after.proxy_port}/health").json()["champion"] == 1
