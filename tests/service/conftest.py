"""One running service for all tests that only ask it things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import Serving, registry_of, serving
from tests.support import models

TRANSPORTS = ("fast", "stock")
"""Channels of ours, and LitServe's own queues: what is asked of the service holds for both."""


@pytest.fixture(scope="session", params=TRANSPORTS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """A service with two workers and two HTTP processes, the small binary model as champion."""
    home: Path = tmp_path_factory.mktemp("service")
    models.publish_small(registry_of(home), models.small_model())
    processes = {"perennial_workers": 2, "perennial_api_servers": 2, "perennial_transport": request.param}
    with serving(home, store_url, **processes, perennial_max_body_mb=0.5) as running:
        yield running
