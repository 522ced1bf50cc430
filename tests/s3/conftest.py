"""A real S3 server (moto's) behind a connection that tests cut; `make check-s3` installs what it takes."""

import os
import sys
import urllib.request
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.s3.cutting_proxy import CuttingProxy
from tests.support.processes import free_port, running, wait_ready


@pytest.fixture(scope="session")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuttingProxy]:
    """The connection to the server, which the environment of this process names as S3."""
    for package in ("s3fs", "moto"):
        pytest.importorskip(package, reason=f"{package} is not installed: `make check-s3` has it")
    port, log = free_port(), tmp_path_factory.mktemp("s3") / "moto.log"
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], log) as process:
        wait_ready(process, lambda: _answers(port), log, 120, "moto's S3 server")
        with CuttingProxy(port) as proxy, pytest.MonkeyPatch.context() as environ:
            environ.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                environ.setenv(name, "test")
            environ.setenv("AWS_DEFAULT_REGION", "us-east-1")
            os.environ.pop("AWS_PROFILE", None)
            yield proxy


@pytest.fixture
def bucket(connection: CuttingProxy) -> Iterator[str]:
    """The URL of an empty bucket."""
    import fsspec

    name = f"perennial-{uuid4().hex[:12]}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}"
    connection.heal()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
