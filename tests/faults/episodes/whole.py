"""When the loop is whole again after an episode: every part does its work, and the week's decision has come through."""

from datetime import UTC, datetime, timedelta

import psutil

from deployments.deploy import POOL
from deployments.replay.waits import backlog, scrape
from deployments.stack import supervisord
from monitoring.lease import lease_key
from monitoring.ledger import Ledger
from monitoring.prefect_api import STARTED
from monitoring.state import load_result
from monitoring.trouble import read_trouble
from monitoring.window import Window
from perennial.errors import PerennialError
from perennial.model_loading import load_champion
from tests.faults.episodes.processes import service_workers, victims
from tests.support.stack import Stage

WORKER_SILENCE = timedelta(seconds=30)

BACKLOG = 100
"""Entries that wait while a monitor follows: what live traffic sends in some seconds."""


def service_trouble(loop: Stage, workers: int) -> str | None:
    """Why the service is not whole; None when each of its processes answers with the champion."""
    try:
        if (count := len(service_workers(loop))) != workers:
            return f"the service has {count} workers of {workers}"
        if (version := scrape(loop.loop.service_url).version) != loop.champion:
            return f"the service answers with version {version} and not with {loop.champion}"
    except (PerennialError, psutil.Error, KeyError) as error:
        return f"the service: {error}"
    return None


def trouble(loop: Stage, window: Window, workers: int) -> str | None:
    """The first thing that is not whole; None when all is."""
    try:
        return service_trouble(loop, workers) or _stack_trouble(loop) or _decision_trouble(loop, window)
    except (PerennialError, OSError, psutil.Error) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a store that is away, or a client of it; whatever it is, it is not whole
        return f"{type(error).__name__}: {error}"


def _stack_trouble(loop: Stage) -> str | None:
    dead = [name for name, program in supervisord.states(loop.stack.socket).items() if program.state != "RUNNING"]
    if dead:
        return f"{', '.join(dead)} not running"
    if not loop.api.healthy():
        return "the Prefect server does not answer"
    if not loop.api.online_workers(POOL, datetime.now(UTC) - WORKER_SILENCE):
        return "no Prefect worker"
    if (found := read_trouble(loop.loop.home)) is not None:
        return f"the monitor does not follow: {found.reason}"
    if not loop.loop.store.exists(lease_key(loop.spec.name)) or not victims(loop, "monitor"):
        return "no monitor follows"
    if (waiting := backlog(loop.loop)) > BACKLOG:
        return f"{waiting} entries wait for the monitor"
    if load_champion(loop.registry, loop.spec.name, loop.path.parent) is None:
        return "no champion can be loaded"
    return None


def _decision_trouble(loop: Stage, window: Window) -> str | None:
    home = loop.loop.home
    if load_result(home, window) is None:
        return f"the window {window} is not closed"
    if (open_ones := Ledger(home).open_entries()) and (entry := open_ones[0]):
        return f"decision {entry.event_id} is {entry.stage}"
    if busy := [run for run in loop.history.runs("retrain") if run.state in STARTED]:
        return f"retraining {busy[0].id} is {busy[0].state}"
    return None
