"""Fixtures of the fault tests: a store that may be killed, a service in front of it, and a voice for the counts."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.service.mortal import Store, mortal_store
from tests.service.serving import Serving, registry_of, serving
from tests.support import models
from tests.support.waiting import wait_until

TIMEOUT = 3.0
"""Seconds after which the service gives a request up; nobody may wait much longer, whatever breaks."""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line with the counts, whether the test fails or not; stderr is what a worker of pytest-xdist shares with us."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n  {request.node.name}: {text}\n")

    return line


@pytest.fixture
def away() -> float:
    """Seconds for which the store is away; the full figures take ten."""
    return float(os.environ.get("TEST_AWAY_SECONDS", "2.5"))


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[Store]:
    """A store of the test's own."""
    with mortal_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def service(tmp_path: Path, own_store: Store) -> Iterator[Serving]:
    """A service with two workers, which may be killed."""
    home = tmp_path / "home"
    models.publish_small(registry_of(home), models.small_model())
    with serving(home, own_store.url, perennial_workers=2, perennial_timeout=TIMEOUT) as running:
        wait_until(lambda: running.versions() == [1, 1], 30, "both workers to answer")
        yield running
