"""The server: puts the parts together in each kind of process."""

import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from perennial import __version__
from perennial.api_keys import configured_keys
from perennial.error_reporting import init_error_reporting
from perennial.errors import SettingsError, StackError
from perennial.logs import configure_logging
from perennial.settings import Settings
from perennial.spec import ModelSpec, load_spec
from service.api import PerennialAPI
from service.express import Express
from service.frame import Frame, Link
from service.guard import Guard, Rules
from service.metrics import prepare_metrics
from service.orphan import end_with_parent
from service.routes import Front, add_routes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve; travels to the HTTP processes by pickle. `base` is the spec's directory, for user functions."""

    settings: Settings
    spec: ModelSpec
    base: Path
    store_url: str


def serve(settings: Settings, spec_path: Path) -> int:
    """Serve the model of a spec until SIGTERM or SIGINT; returns the exit code.

    Raises SpecError, SettingsError without a store, and StackError when the port is taken.
    """
    plan = make_plan(settings, spec_path)
    configure_logging(settings, "service")
    init_error_reporting(settings, "service", model=plan.spec.name)
    stop = _stop_on_signals()
    with listen(settings.host, settings.port) as listener:
        prepare_metrics(settings.model_home(plan.spec.name) / "service" / f"metrics-{listener.getsockname()[1]}")
        _share_cores(settings.workers)
        _warn_when_open(settings)
        logger.info("%s on http://%s:%d, store %s", plan.spec.name, *listener.getsockname()[:2], plan.store_url)
        return build_server(plan).run_processes(listener, _HttpProcess(plan), settings.api_servers, stop)


def make_plan(settings: Settings, spec_path: Path) -> Plan:
    """Read the spec; raises SpecError, or SettingsError when no store is given or an API key is unusable."""
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: the service needs a store for its predictions; set it, or run `perennial up`")
    configured_keys(settings)  # unusable ones are told here, before anything starts
    return Plan(settings, load_spec(spec_path), spec_path.absolute().parent, settings.redis_url)


def build_server(plan: Plan) -> Frame:
    """LitServe's server with our API and routes; nothing is started."""
    api = PerennialAPI(plan.settings, plan.spec, plan.base, plan.store_url)
    frame = Frame(api, plan.settings)
    fronts: list[Front] = []
    frame.on_startup(lambda: fronts.append(Front(plan.settings, plan.spec, plan.store_url, frame.desk, frame.ending)))
    frame.app.title, frame.app.version = f"Perennial: {plan.spec.name}", __version__
    add_routes(frame.app, lambda: fronts[0])
    rules = Rules(plan.settings)
    frame.put_in_front(
        lambda app: Guard(Express(app, lambda: fronts[0]), rules, lambda: fronts[0].metrics, plan.settings.timeout)
    )
    return frame


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises StackError naming address and fix when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Connections made before the first HTTP process is up wait here instead of being refused.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StackError(f"cannot listen on {host}:{port} ({error.strerror}): set PERENNIAL_PORT or PERENNIAL_HOST") from error
    listener.set_inheritable(True)
    return listener


def _warn_when_open(settings: Settings) -> None:
    """Whoever reaches an address beyond loopback may ask, and may tell labels that train the next model."""
    local = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    if not local and not (settings.api_keys or settings.api_keys_file):
        logger.warning(
            "listening on %s without an API key: whoever reaches it may predict and tell labels; set PERENNIAL_API_KEYS",
            settings.host,
        )


class _HttpProcess:
    """The entry of an HTTP process; a class, because it travels there by pickle."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, link: Link) -> None:
        # Until uvicorn listens for signals itself; the main process decides when the others end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        configure_logging(self._plan.settings, f"http-{link.index}")
        init_error_reporting(self._plan.settings, "service", model=self._plan.spec.name)
        end_with_parent()
        build_server(self._plan).serve_http(link)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _share_cores(workers: int) -> None:
    """Workers that each start a thread per core get in each other's way."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    for variable in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, share)
