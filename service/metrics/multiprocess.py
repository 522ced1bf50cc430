"""The shared metrics of a service: each process writes files of its own, `/metrics` merges them.

prometheus_client chooses its multiprocess form when it is imported, by an environment variable; so it is imported only
inside functions, after `prepare_metrics` in the main process.
"""

import os
import shutil
from pathlib import Path

import psutil

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable by which prometheus_client finds the directory, in this process and those it starts."""


def prepare_metrics(directory: Path) -> None:
    """Empty the directory of an earlier run and make this process and its children use it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.environ[DIRECTORY] = str(directory)


def render_metrics() -> bytes:
    """The metrics of all processes of this service in the text format; gauges of dead processes are left out."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    directory = Path(os.environ[DIRECTORY])
    _forget_dead(directory)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead(directory: Path) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    pids = {int(path.stem.rpartition("_")[2]) for path in directory.glob("gauge_live*.db")}
    for pid in pids:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
