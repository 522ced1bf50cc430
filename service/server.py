"""The service's main process: takes the port, starts the workers and supervises them. It answers no request itself.

When the specs that it was given stand for other files than before (a directory or a list has one more, or one less), workers that
serve the new ones take the place of the old, one after another, without refusing a request; what is served is in a file.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.error_reporting import init_error_reporting
from perennial.errors import PerennialError, SettingsError, SpecError, StackError
from perennial.fleet import spec_files
from perennial.logs import configure_logging
from perennial.settings import Settings, configured_keys
from perennial.spec import load_spec
from service.inference.litapi import PredictionAPI
from service.metrics import prepare_metrics
from service.plan import DRAIN_TIMEOUT, FLUSH_TIMEOUT, RETIRE_TIMEOUT, ServedSpec, ServicePlan, write_served
from service.processes.litserve_server import PredictionServer
from service.processes.supervisor import Heartbeat, Start, SupervisedProcess, WorkerHandle, end, supervise

if TYPE_CHECKING:
    from service.worker import Worker

HANG_GRACE = timedelta(seconds=5)  # beyond the request timeout before a worker whose event loop stands still is killed
STOP_GRACE = timedelta(seconds=1)  # beyond the time that a worker's own end may take before it is killed
READ_SPECS = timedelta(seconds=2)  # between two looks at which specs there are; the monitor looks as often
LAST_RETRY = timedelta(seconds=30)  # before workers that did not come up with new specs are tried again
BACKLOG = 2_048  # connections that wait in the socket, such as those made before the first worker is up

logger = logging.getLogger(__name__)


def serve(settings: Settings, given: Sequence[Path]) -> int:
    """Serve the specs' models until SIGTERM or SIGINT; the exit code. Raises SpecError, SettingsError, StackError (port)."""
    files = spec_files(given)
    plan = make_plan(settings, [Path(file) for file in files])
    configure_logging(settings, "service")
    init_error_reporting(settings, "service", model=plan.only)
    stop = _stop_on_signals()
    with listen(settings.host, settings.port) as listener:
        prepare_metrics(plan.home / f"metrics-{listener.getsockname()[1]}")
        _share_cores(settings.workers)
        _warn_when_open(settings)
        logger.info("%s on http://%s:%d, store %s", ", ".join(plan.names), *listener.getsockname()[:2], plan.store_url)
        _run_workers(plan, _SpecWatch(given, files), listener, stop)
    return 0


def make_plan(settings: Settings, spec_paths: Sequence[Path]) -> ServicePlan:
    """Read the specs; raises SpecError, or SettingsError when no store is given or an API key is unusable."""
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: the service needs a store for its predictions; set it, or run `perennial up`")
    configured_keys(settings)  # an unusable key is told here, before anything starts
    by_name: dict[str, Path] = {}
    found = []
    for path in spec_paths:
        spec = load_spec(path)
        if (first := by_name.setdefault(spec.name, path)) is not path:
            raise SpecError(
                f"{first} and {path} both describe {spec.name!r}: a model is served once, give each a name of its own"
            )
        found.append(ServedSpec(spec, path.absolute().parent))
    return ServicePlan(settings, tuple(sorted(found, key=lambda one: one.spec.name)), settings.redis_url)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises StackError naming address and fix when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StackError(f"cannot listen on {host}:{port} ({error.strerror}): set PERENNIAL_PORT or PERENNIAL_HOST") from error
    listener.set_inheritable(True)
    return listener


class _SpecWatch:
    """Looks at the specs again from time to time."""

    def __init__(self, given: Sequence[Path], files: tuple[str, ...]) -> None:
        self._given, self._files, self._next, self._trouble = given, files, 0.0, ""

    def look_again(self) -> None:
        """What is there now is not served: say after a while that it has changed."""
        self._files, self._next = (), time.monotonic() + LAST_RETRY.total_seconds()

    def changed(self, settings: Settings) -> ServicePlan | None:
        """What is to be served, where that is not what was; specs that cannot be read change nothing, and are logged once."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + READ_SPECS.total_seconds()
        try:
            files = spec_files(self._given)
            if not files or files == self._files:
                return None
            plan = make_plan(settings, [Path(file) for file in files])
            self._files, self._trouble = files, ""
            return plan
        except PerennialError as error:
            if str(error) != self._trouble:
                logger.error("what was served is served on: %s", error)
            self._trouble = str(error)
            return None


def _run_workers(plan: ServicePlan, watch: _SpecWatch, listener: socket.socket, stop: socket.socket) -> None:
    settings, port = plan.settings, int(listener.getsockname()[1])

    def starts(plan: ServicePlan) -> Callable[[int], Start]:
        server = PredictionServer(PredictionAPI(partial(start_worker, plan)), settings.workers)

        def start(index: int, heartbeat: Heartbeat) -> BaseProcess:
            return server.start_worker(index, WorkerHandle(listener, heartbeat))

        return lambda index: partial(start, index)

    def renew(workers: Sequence[SupervisedProcess]) -> None:
        if (new := watch.changed(settings)) is not None:
            start = starts(new)
            logger.info("from now on: %s", ", ".join(new.names))
            if all(worker.replace(start(index), stop, RETIRE_TIMEOUT + grace) for index, worker in enumerate(workers)):
                write_served(settings, port, new.names)
            else:
                watch.look_again()

    grace = settings.lame_duck + DRAIN_TIMEOUT + FLUSH_TIMEOUT + STOP_GRACE
    first, hang = starts(plan), settings.timeout + HANG_GRACE
    workers = [SupervisedProcess(f"worker {index}", first(index), hang) for index in range(settings.workers)]
    write_served(settings, port, plan.names)
    try:
        supervise(workers, stop, partial(renew, workers))
    finally:
        listener.close()  # the workers' own are still open: once they close them, who connects is refused and not left to wait
        end(workers, grace)


def start_worker(plan: ServicePlan) -> "Worker":
    """In a worker's process, called by LitServe. Imported there: the main process does without polars and estimators."""
    from service import worker

    return worker.start_worker(plan)


def _warn_when_open(settings: Settings) -> None:
    """A client that reaches an address beyond loopback may predict, and may tell labels that train the next model."""
    local = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    if not local and not (settings.api_keys or settings.api_keys_file):
        logger.warning(
            "listening on %s without an API key: every client that reaches it may predict and tell labels; "
            "set PERENNIAL_API_KEYS",
            settings.host,
        )


def _stop_on_signals() -> socket.socket:
    """A socket that can be read once a signal to end has come."""
    stop, told = socket.socketpair()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.close())
    return stop


def _share_cores(workers: int) -> None:
    """Workers that each start a thread per core get in each other's way."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    for variable in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, share)
