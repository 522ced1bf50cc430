"""Running a flow in this process for a person: it finds the stack, its log goes to a file, and what it fails with is one line.

Prefect tells with bare errors that its API is away, and prints a traceback of every flow that fails. Warnings of our own
packages are shown on the terminal.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.namesakes import OWN_PACKAGES
from deployments.prefect_client import require_api
from deployments.stack.stack import environment_of
from deployments.stack.state import state_dir
from deployments.stack.supervisord import log_file
from deployments.temporary_server import FIX, temporary_server
from perennial.errors import PrefectUnreachable
from perennial.logs import LineFormatter
from perennial.settings import Settings

if TYPE_CHECKING:
    from prefect import State
    from rich.console import Console
    from rich.status import Status

PROGRESS = "tasks.backtest"
"""Logger of the steps that say how far they are."""

START_TIMEOUT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"

TEMPORARY_SERVER = {
    START_TIMEOUT: "180",  # a busy machine takes more than the 20 that Prefect gives it
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
"""Variables of the server that runs for the time of this process where no stack does."""


def join_stack(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Point this process at the running stack, before it imports Prefect, which reads it then; raises PrefectUnreachable."""
    environ.update({**TEMPORARY_SERVER, **environment_of(settings, environ)})
    make_prefect_home(environ)
    if url := environ.get("PREFECT_API_URL"):
        require_api(url, environ)


def make_prefect_home(environ: Mapping[str, str]) -> None:
    """Prefect makes no parent directories of its home, and warns at import when it could not make it."""
    if home := environ.get("PREFECT_HOME"):
        Path(home).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)


def run_flow(name: str, settings: Settings, console: "Console", *, verbose: bool, **parameters: Any) -> "State[Any]":
    """The final state of a flow run in this process; raises what ended it, and PrefectUnreachable when the API went away."""
    server = None if "PREFECT_API_URL" in os.environ else temporary_server(settings.home)
    if server is not None:
        os.environ["PREFECT_API_URL"] = server.url  # Prefect reads it when it is imported, which is now
    flow = getattr(import_module(f"flows.{name}"), name)
    if server is not None:
        server.wait_ready(timedelta(seconds=float(os.environ[START_TIMEOUT])))
    log = log_file(state_dir(settings.home), flow.name)
    try:
        with (
            nullcontext() if verbose else _logged_to(log),
            console.status(f"{flow.name}; its log is {log}") as status,
            _progress_shown(status, flow.name),
        ):
            state: State[Any] = flow(**parameters, return_state=True)
            if not state.is_completed():
                state.result()
            return state
    except Exception as error:
        if _is_of_the_api(error):
            # The output of a temporary server that does not start follows the reason.
            reason = str(error).partition(" stdout:")[0].partition(" stderr:")[0].rstrip(".")
            raise PrefectUnreachable(f"{reason}: {FIX}") from error
        raise


@contextmanager
def _progress_shown(status: "Status", name: str) -> Iterator[None]:
    """Show what long steps say of their progress beside the spinner."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            status.update(f"{name}: {record.getMessage()}")

    handler, logger = Shown(logging.INFO), logging.getLogger(PROGRESS)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _is_of_the_api(error: Exception) -> bool:
    """Whether Prefect raised it because its API, the temporary one included, does not answer."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    if isinstance(error, httpx.RequestError):
        return str(error.request.url).startswith(str(PREFECT_API_URL.value()))
    signs = ("Failed to reach API", "Prefect API", "PREFECT_API_URL")
    return isinstance(error, RuntimeError | ValueError) and any(sign in str(error) for sign in signs)


@contextmanager
def _logged_to(log: Path) -> Iterator[None]:
    """Give each logger a file where Prefect gave it the terminal: for good, since Prefect goes on logging until it exits."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Opened with the first record: the handlers of an earlier run of this process still stand, and then it gets none.
    file, terminal = logging.FileHandler(log, delay=True), logging.StreamHandler(sys.stderr)
    file.setFormatter(LineFormatter("cli"))
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("warning: %(message)s"))
    terminal.addFilter(lambda record: record.name.partition(".")[0] in OWN_PACKAGES)
    root = logging.getLogger()
    for logger in (root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))):
        logger.handlers = [file if _is_prefects_terminal(handler) else handler for handler in logger.handlers]
    root.addHandler(terminal)
    try:
        yield
    finally:
        root.removeHandler(terminal)


def _is_prefects_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("prefect.")
