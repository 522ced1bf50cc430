"""A real Prefect server for tests, started as the stack starts it: its own process, home and SQLite file, no telemetry."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.stack.prefect_server import COMMAND, api_url, server_environment
from tests.support.prefect_database import copy_migrated_database
from tests.support.processes import free_port, running, wait_ready

START_TIMEOUT = 120.0
"""Seconds; 9-20 on two busy cores, much longer when several servers start at once."""


@contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[str]:
    """Run a Prefect server with its state in `home`; yields the API's URL once it is healthy."""
    copy_migrated_database(home)
    port, log = port or free_port(), home / "server.log"
    url = api_url(port)
    with running(COMMAND, log, server_environment(home, port)) as process:
        wait_ready(process, lambda: healthy(url), log, START_TIMEOUT, "prefect server")
        yield url


def healthy(url: str) -> bool:
    """Whether a Prefect API answers at `url`."""
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def pointed_at(url: str) -> Iterator[str]:
    """Make this process, its threads and the processes it starts use the API at `url`."""
    from prefect import context
    from prefect.settings import temporary_settings

    everywhere = context.GLOBAL_SETTINGS_CONTEXT
    os.environ["PREFECT_API_URL"] = url
    try:
        with temporary_settings(updates={"api.url": url}):
            # A context variable does not reach threads that others start: they read the global context.
            context.GLOBAL_SETTINGS_CONTEXT = context.SettingsContext.get() or everywhere
            yield url
    finally:
        context.GLOBAL_SETTINGS_CONTEXT = everywhere
        os.environ.pop("PREFECT_API_URL", None)
