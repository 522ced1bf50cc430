"""The embedded Prefect server: its command, its environment, and its process (`python -m deployments.stack.prefect_server`)."""

import gc
import itertools
import runpy
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

PREFERRED_PORT = 4200  # Prefect's own default
COMMAND = (sys.executable, "-m", "deployments.stack.prefect_server")  # where it listens is in its environment

COLLECT_INTERVAL, FULL_EVERY = timedelta(seconds=1), 30
"""Between two garbage collections, and how many of them make one that looks at old objects too."""

_ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # Leases kept in memory would be forgotten at a restart, and the slot of a running retrain never be free again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Seconds a run that waits for a slot stays away; by default 30, longer than many a retraining.
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
    # Seconds until the slot of a run is taken back that died before it began, and between two looks for such slots; by
    # default 300 and 15. Once a run has begun it holds its lease for 300 s and renews it.
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "5",
}


def server_environment(home: Path, port: int) -> dict[str, str]:
    """Variables for the server and for its clients; `home` holds its SQLite file.

    Host, port and API URL are all given: with the port alone the UI would go on calling port 4200.
    """
    return {
        **_ENVIRONMENT,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url(port),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
    }


def api_url(port: int) -> str:
    """The API of a server on `port`."""
    return f"http://127.0.0.1:{port}/api"


def start_collector_thread(stop: threading.Event, interval: timedelta = COLLECT_INTERVAL) -> threading.Thread:
    """Collect garbage in a thread of its own instead of wherever an allocation happens to ask for it, until `stop` is set.

    A refused write ("database is locked", answered with a 503 and asked again) leaves its SQLite cursor in a cycle. Freeing it
    waits for its connection, which may by then wait for the write lock, up to SQLite's 60 s. On the event loop's thread that
    stops the whole server, because the holder of the lock waits for the event loop. A thread of its own may wait.
    """

    def collect() -> None:
        for turn in itertools.count(1):
            if stop.wait(interval.total_seconds()):
                return
            gc.collect(1 if turn % FULL_EVERY else 2)

    gc.disable()
    thread = threading.Thread(target=collect, name="garbage", daemon=True)
    thread.start()
    return thread


def lock_at_begin() -> None:
    """Let every transaction of this process's Prefect server that may write take SQLite's write lock when it begins.

    Prefect begins most of them without it: they read, and ask for the lock when they write. If another one has written in
    between, SQLite refuses at once, because what was read is old. The server answers 503, and its clients, itself among them,
    come again after two seconds: nearly every run that an automation creates did. At its beginning one waits, for milliseconds.
    """
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

    def begin(_: AioSqliteConfiguration, connection: "Connection") -> None:
        if SQLITE_BEGIN_MODE.get() is not None:  # else each statement is a transaction of its own, and waits
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    AioSqliteConfiguration.begin_sqlite_stmt = begin  # type: ignore[method-assign, assignment]


if __name__ == "__main__":  # `prefect server start`, with its garbage collected in a thread
    lock_at_begin()
    start_collector_thread(threading.Event())
    sys.argv = ["prefect", "server", "start"]
    runpy.run_module("prefect", run_name="__main__")
