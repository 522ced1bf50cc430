"""One real stack for the tests of this directory that need one: store, Prefect server, worker and service."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.prefect_client import PrefectClient
from deployments.stack import stack as stacks
from deployments.stack.ports import PortReservations
from deployments.stack.state import Stack
from perennial.settings import Settings
from tests.support.prefect_database import prepare_home
from tests.support.processes import ROOT, free_port

FLIGHTS = ROOT / "examples" / "flights.toml"
"""The spec that the stack of the tests is brought up for."""


@pytest.fixture(scope="session")
def stack_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the tests' stack: a home of its own and a port that nobody else asks for."""
    return Settings(home=tmp_path_factory.mktemp("stack"), port=free_port())


@pytest.fixture(scope="session")
def stack(stack_settings: Settings) -> Iterator[Stack]:
    """A stack that is up, with the flights example deployed; its environment has a proxy that is away."""
    prepare_home(stack_settings.home)
    away = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    yield stacks.up([FLIGHTS], stack_settings, {**os.environ, **away}, datetime.now(UTC))[0]
    stacks.down(stack_settings)


def deployed(api: PrefectClient, name: str) -> str:
    """A deployment, and its flow and work pool, all of this name, that has no worker; its id."""
    api.request("POST", "/work_pools/", {"name": name, "type": "process"})
    flow = api.request("POST", "/flows/", {"name": name})["id"]
    return str(api.request("POST", "/deployments/", {"name": name, "flow_id": flow, "work_pool_name": name})["id"])


@pytest.fixture
def ports() -> Iterator[PortReservations]:
    """Ports that no other stack is given during the test."""
    with PortReservations() as handed_out:
        yield handed_out


@pytest.fixture
def api(stack: Stack) -> Iterator[PrefectClient]:
    """A client of the stack's Prefect API."""
    with PrefectClient(stack.prefect.url, {}) as client:
        yield client


@pytest.fixture
def spec_copy(tmp_path: Path) -> Path:
    """A small valid spec of another model, in a directory of the test."""
    path = tmp_path / "other.toml"
    path.write_text(
        'name = "other"\ntask = "regression"\ntarget = "y"\nevent_time = "at"\n'
        '[sources.rows]\npath = "rows.csv"\n[features]\nx = "numeric"\n'
    )
    return path
