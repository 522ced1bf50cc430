"""One running service for all tests that only ask it things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import Serving, registry_of, serving
from tests.support import models


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """A service with two workers, the small binary model as champion."""
    home: Path = tmp_path_factory.mktemp("service")
    models.publish_small(registry_of(home), models.small_model())
    with serving(home, store_url, perennial_workers=2, perennial_max_body_mb=0.5) as running:
        yield running
