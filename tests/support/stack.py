"""A whole loop for tests: the stack brought up by the commands a person types, and where to look at what its parts did.

Only outcomes are looked at: replies, the archive, window files, the registry, the Prefect API, the service's own gauges.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from deployments.prefect_client import FlowRun, PrefectClient, PrefectHistory
from deployments.replay.waits import LoopHandles, backlog, if_ended, scrape
from deployments.stack.state import Service, Stack, load_stack
from monitoring.archive import Archive, Counts
from monitoring.events import ModelEvent
from monitoring.policy import Flow
from monitoring.state import WindowResult, load_results
from perennial.log_columns import ID
from perennial.model import CARD_FILE
from perennial.model_card import ModelCard
from perennial.registry import Registry
from perennial.spec import ModelSpec, load_spec
from service.prediction_log.redis_client import connect
from tasks.serving.replay import Client, Tick, prepare, ticks
from tests.support.isolation import REDIS
from tests.support.prefect_database import prepare_home
from tests.support.processes import ROOT, python, run_to_end, without_wandb_directories
from tests.support.store import own_database
from tests.support.waiting import wait_until

COMMAND_TIMEOUT = 240.0
"""Seconds one command may take; `up` takes 20 on two quiet cores and several times that beside other work."""

FLOW_TIMEOUT = 240.0
"""Seconds for a flow run of a small model: two process starts of several seconds and a training of a few."""

LOOP_TIMEOUT = 90.0
"""Seconds for the monitor to do what it does within a few."""


@dataclass(frozen=True)
class Stage:
    """One model's loop that is up."""

    spec: ModelSpec
    path: Path
    stack: Stack
    loop: LoopHandles = field(repr=False)
    api: PrefectClient = field(repr=False)
    client: Client = field(repr=False)

    @property
    def service(self) -> Service:
        """The service of the stack."""
        service = self.stack.service
        assert service is not None
        return service

    @property
    def history(self) -> PrefectHistory:
        """Who reads the Prefect API."""
        return self.loop.history

    @property
    def registry(self) -> Registry:
        """Where the versions are."""
        return self.loop.registry

    @property
    def champion(self) -> int | None:
        """The version that the registry says serves."""
        return self.registry.aliases(self.spec.name).champion

    @property
    def serving(self) -> int:
        """The version that every worker of the service answers with."""
        return scrape(self.loop.service_url).version

    def card(self, version: int) -> ModelCard:
        """What a version says of itself."""
        return ModelCard.model_validate_json(self.registry.read(self.spec.name, version)[CARD_FILE])

    def train(self, until: datetime) -> FlowRun:
        """The first training by its deployment, on rows before `until`; its run once the version serves."""
        asked = self.history.start("train", {"until": until.isoformat()})
        run = wait_until(lambda: if_ended(self.history.client.run(asked)), FLOW_TIMEOUT, "the training to end")
        assert run.state == "COMPLETED", run.message
        wait_until(lambda: self.serving == self.champion == 1, 30, "the service to answer with version 1")
        return run

    def replay(self, table: pl.DataFrame, start: datetime, delay: timedelta, step: timedelta) -> "Replay":
        """The rows from `start` on, to be asked in their order; their labels are told `delay` later. Nothing is sent yet."""
        return Replay(self.client, ticks(prepare(table, self.spec), start, None, delay, step))

    def window(self, start: datetime) -> WindowResult:
        """The result of the window that starts then, once the monitor has closed it."""
        return wait_until(lambda: self.closed(start), LOOP_TIMEOUT, f"the monitor to close the window of {start:%Y-%m-%d}")

    def closed(self, start: datetime) -> WindowResult | None:
        """The result of the window that starts then; None while it is open."""
        return next((result for result in load_results(self.loop.home) if result.window.start == start), None)

    def run_of(self, event_id: str, flow: Flow = "retrain") -> FlowRun:
        """The one run that an event has started, once it has ended."""
        find = partial(self.history.run_for, event_id, flow)
        wait_until(find, LOOP_TIMEOUT, f"the automation to answer event {event_id}")
        return wait_until(lambda: if_ended(find()), FLOW_TIMEOUT, f"{flow} to end")

    def event(self, event_id: str) -> ModelEvent:
        """An event of the feed; the server shows it a few seconds after it has confirmed it."""
        return wait_until(lambda: self._event(event_id), LOOP_TIMEOUT, f"the feed to show event {event_id}")

    def parameters(self, run: FlowRun) -> dict[str, Any]:
        """The parameters of a flow run, as the API has them."""
        found: dict[str, Any] = self.api.request("GET", f"/flow_runs/{run.id}")["parameters"]
        return found

    def archived(self) -> Counts:
        """What the archive holds once nothing waits in the streams any more."""
        wait_until(lambda: backlog(self.loop) == 0, LOOP_TIMEOUT, "the monitor to archive everything")
        return self.archive().counts()

    def archive(self) -> Archive:
        """The prediction log."""
        return Archive(self.loop.home, self.spec.task, self.card(1).schema_)

    def _event(self, event_id: str) -> ModelEvent | None:
        return next((event for event in self.history.events() if event.id == event_id), None)


class Replay:
    """A table lived through as far as a test wants to; `failures` is every request that was not answered well."""

    def __init__(self, client: Client, moments: Iterator[Tick]) -> None:
        self._client, self._moments, self._next = client, moments, next(moments, None)
        self.asked: list[str] = []
        self.told: list[str] = []
        self.failures: list[str] = []

    def until(self, end: datetime, insist: bool = False) -> None:
        """Send what happens before `end`; a tick that fails is sent again when we insist, for as long as a restart may take."""
        while self._next is not None and self._next.clock < end:
            tick, self._next = self._next, next(self._moments, None)
            if not self._sent(tick) and insist:
                wait_until(partial(self._sent, tick), LOOP_TIMEOUT, "the service to answer again")
            self.asked += [row[ID] for row in tick.rows]
            self.told += [row[ID] for row in tick.labels]

    def _sent(self, tick: Tick) -> bool:
        sent = self._client.send(tick)
        self.failures += sent.failures
        return not sent.failed


@contextmanager
def stage(path: Path, home: Path, **environ: str) -> Iterator[Stage]:
    """Bring the stack of a spec up in `home`; whatever is left of it is taken down when the block is left."""
    own, began = {"PERENNIAL_HOME": str(home), **environ}, datetime.now(UTC)
    prepare_home(home)
    try:
        perennial("up", str(path), **own)
        stack, spec = load_stack(home), load_spec(path)
        assert stack is not None
        service = stack.service
        assert service is not None
        with (
            PrefectClient(stack.prefect.url, {}) as api,
            connect(stack.store.url) as store,
            Client(service.url) as client,
        ):
            registry = Registry(str(home.absolute() / "registry"))
            history = PrefectHistory(api, spec.name, began, str(path.absolute()))
            loop = LoopHandles(spec.name, home.absolute() / spec.name, service.url, stack.store.url, store, registry, history)
            yield Stage(spec, path, stack, loop, api, client)
    finally:
        perennial("down", **own)


def perennial(*arguments: str, **environ: str) -> str:
    """Run one command of the command line as a person does; returns what it printed, fails when it fails."""
    command = python("-c", "from deployments.cli import main; main()", *arguments)
    return run_to_end(command, ROOT, {**without_wandb_directories(os.environ), **environ}, COMMAND_TIMEOUT)


def given_store() -> Mapping[str, str]:
    """REDIS_URL as the person who runs the tests has set it, cleared for us; nothing where the stack brings its own."""
    given = os.environ.get(REDIS)
    if not given:
        return {}
    url = own_database(given)
    with connect(url) as store:
        store.flushdb()
    return {"REDIS_URL": url}
