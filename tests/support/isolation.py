"""What keeps a test run apart from the person who starts it: their servers, keys, profiles and settings.

Called once per test process, before any test module is imported: several tools read the environment at import.
"""

import atexit
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import psutil

MARKER = "TEST_SESSION"
"""Variable by which a process is known to descend from this test process, even after it has daemonised."""

REDIS = "TEST_REDIS_URL"
"""Where REDIS_URL is put away, so that only the `store_url` fixture uses the person's server."""

_PRIVATE = ("PREFECT_", "PERENNIAL_", "WANDB_", "SENTRY_")
_OFFLINE = {
    "OMP_WAIT_POLICY": "passive",  # LightGBM's idle threads must not take the cores of the servers beside them
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PERENNIAL_STANDBY": "false",  # its imports cost each stack three seconds of a core
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}
_HELPERS = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker", "multiprocessing.forkserver")
"""Children that the standard library and joblib keep until the interpreter ends."""


def isolate() -> None:
    """Put a private environment in place of the person's."""
    if "REDIS_URL" in os.environ:
        os.environ[REDIS] = os.environ.pop("REDIS_URL")
    for name in [name for name in os.environ if name.startswith(_PRIVATE)]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="perennial-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)  # of a process that runs no test, as xdist's first, too
    os.environ.update(_OFFLINE)
    os.environ.update({MARKER: uuid.uuid4().hex, "PREFECT_HOME": str(home / "prefect"), "WANDB_DIR": str(home)})
    os.environ.update({"WANDB_DATA_DIR": str(home / "wandb-data"), "WANDB_CACHE_DIR": str(home / "wandb-cache")})
    os.environ["WANDB_CONFIG_DIR"] = str(home / "wandb-config")


def private_home() -> Path:
    """The directory `isolate` made; the session removes it at its end."""
    return Path(os.environ["PREFECT_HOME"]).parent


def leftovers() -> list[psutil.Process]:
    """Processes this test process has started, directly or not, that still live."""
    children = psutil.Process().children(recursive=True)
    strays = [process for process in psutil.process_iter() if _marked(process)]
    return [process for process in {*children, *strays} if _alive(process)]


def _marked(process: psutil.Process) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARKER) == os.environ[MARKER]
    except (psutil.Error, OSError):
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and not any(helper in command for helper in _HELPERS)
    except psutil.Error:
        return False
