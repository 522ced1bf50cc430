"""The servers under test: how each is started, where it answers, and in which form it takes rows."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.envs import ensure
from benchmarks.serve.subject import NAME, Subject
from service.prediction_log.streams import predictions_stream
from tests.support.processes import ROOT, free_port

PEERS = Path(__file__).with_name("peers")
LOOPBACK = "127.0.0.1"

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""For the runtimes that call LightGBM themselves and are asked one row only; see `peers/coding.py`."""


@dataclass(frozen=True)
class Ground:
    """What all servers of a run stand on."""

    subject: Subject
    store_url: str
    work: Path


@dataclass(frozen=True)
class Start:
    """How to start a process; `before` is run and waited for once a start."""

    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path = PEERS
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Server:
    """A server: `processes` answer HTTP; `stream` is where it logs every prediction, if it does."""

    name: str
    title: str
    environment: str | None
    start: Callable[[Ground, Path, int], Start]
    processes: int = 1
    path: str = "/predict"
    form: str = "instances"
    stream: str | None = None

    @property
    def in_bulk(self) -> bool:
        """Whether it is also asked many rows at once."""
        return self.name.partition("-")[0] in ("perennial", "baseline") or self.name in ("fastapi", "fastapi-tuned")


def _ours(processes: int, module: str = "service") -> Callable[[Ground, Path, int], Start]:
    def start(ground: Ground, _bin: Path, port: int) -> Start:
        environ = {
            "REDIS_URL": ground.store_url,
            "PERENNIAL_HOME": str(ground.subject.home),
            "PERENNIAL_PORT": str(port),
            "PERENNIAL_WORKERS": str(processes),
            "PERENNIAL_LOG_LEVEL": "WARNING",
        }
        return Start((sys.executable, "-m", module, "--spec", str(ground.subject.spec)), environ, ROOT)

    return start


def baseline(checkout: Path, processes: int) -> Server:
    """The service of another checkout with an environment of its own, such as one of an earlier release.

    It publishes its own model from the same rows, because what it reads may have another form.
    """

    def start(ground: Ground, _bin: Path, port: int) -> Start:
        python, home = str(checkout / ".venv" / "bin" / "python"), ground.work / "baseline"
        environ = {
            "REDIS_URL": ground.store_url,
            "PERENNIAL_HOME": str(home),
            "PERENNIAL_PORT": str(port),
            "PERENNIAL_WORKERS": str(processes),
            "PERENNIAL_API_SERVERS": str(processes),
            "PERENNIAL_LOG_LEVEL": "WARNING",
        }
        command = (python, "-m", "service", "--spec", str(home / f"{NAME}.toml"))
        return Start(command, environ, checkout, (python, "-c", PUBLISH, str(home)))

    return Server(
        f"baseline-{processes}",
        f"the service in {checkout.name}, {processes}",
        None,
        start,
        processes,
        stream=predictions_stream(NAME),
    )


PUBLISH = """
import pathlib, sys
home = pathlib.Path(sys.argv[1])
if not home.exists():
    from benchmarks.serve.subject import make_subject
    home.mkdir()
    make_subject(home)
"""
"""Run by the other checkout's interpreter before its service starts."""


def _uvicorn(module: str, processes: int = 1) -> Callable[[Ground, Path, int], Start]:
    def start(ground: Ground, commands: Path, port: int) -> Start:
        where = ("--host", LOOPBACK, "--port", str(port), "--workers", str(processes))
        # Quiet, as ours is: an access log costs every peer some 10 %.
        quiet = ("--no-access-log", "--log-level", "warning")
        command = (str(commands / "uvicorn"), f"{module}:create_app", "--factory", *where, *quiet)
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
        return Start(command, _environ(ground) | share | {"REDIS_URL": ground.store_url})

    return start


def _litserve(ground: Ground, commands: Path, port: int) -> Start:
    return Start((str(commands / "python"), "stock.py", str(port)), _environ(ground))


def _bentoml(ground: Ground, commands: Path, port: int) -> Start:
    command = (str(commands / "bentoml"), "serve", "bento:Scores", "--host", LOOPBACK, "--port", str(port))
    private = {"BENTOML_HOME": str(ground.work / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    return Start(command, _environ(ground) | private)


def _mlflow(ground: Ground, commands: Path, port: int) -> Start:
    saved = ground.work / f"mlflow-{port}"
    where = ("-m", str(saved), "--host", LOOPBACK, "--port", str(port), "--workers", "1", "--env-manager", "local")
    private = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": f"sqlite:///{saved}.db"}
    before = (str(commands / "python"), "mlflow_save.py", str(saved))
    # `mlflow models serve` starts uvicorn by name.
    path = {"PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin"}
    return Start(
        (str(commands / "mlflow"), "models", "serve", *where), _environ(ground) | ONE_THREAD | private | path, PEERS, before
    )


def _mlserver(ground: Ground, commands: Path, port: int) -> Start:
    folder = ground.work / f"mlserver-{port}"
    folder.mkdir()
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    runtime = {"name": "bench", "implementation": "mlserver_lightgbm.LightGBMModel"}
    model = {**runtime, "parameters": {"uri": str(ground.subject.folder / "model.txt")}}
    (folder / "settings.json").write_text(json.dumps({"host": LOOPBACK, "debug": False, **ports}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return Start((str(commands / "mlserver"), "start", str(folder)), _environ(ground) | ONE_THREAD, folder)


def _environ(ground: Ground) -> dict[str, str]:
    return {"BENCH_MODEL": str(ground.subject.folder), "PYTHONPATH": str(PEERS), "DO_NOT_TRACK": "1"}


def commands_of(server: Server) -> Path:
    """The directory of the environment's commands, made on first use; ours runs in the one that runs this."""
    return ensure(server.environment) if server.environment else Path(sys.executable).parent


SERVERS = (
    Server("perennial", "**Perennial**, 2 workers, log on", None, _ours(2), 2, stream=predictions_stream(NAME)),
    Server("perennial-1", "Perennial, 1 worker, log on", None, _ours(1), stream=predictions_stream(NAME)),
    Server("perennial-nolog", "Perennial, 2 workers, log off", None, _ours(2, "benchmarks.serve.silent"), 2),
    Server("fastapi", "FastAPI, `booster.predict`, 1 process", "fastapi", _uvicorn("bare")),
    Server("fastapi-tuned", "FastAPI, orjson + single-row-fast, 2 processes", "fastapi", _uvicorn("tuned", 2), 2),
    Server("fastapi-tuned-1", "the same, 1 process", "fastapi", _uvicorn("tuned")),
    Server("fastapi-xadd", "FastAPI with an `XADD` per request, 1 process", "fastapi", _uvicorn("xadd"), stream="bench:xadd"),
    Server("litserve", "LitServe 0.2.19, stock", "litserve", _litserve),
    Server("bentoml", "BentoML", "bentoml", _bentoml),
    Server("mlflow", "MLflow `models serve`", "mlflow", _mlflow, path="/invocations", form="inputs"),
    Server("mlserver", "MLServer", "mlserver", _mlserver, path="/v2/models/bench/infer", form="tensor"),
)
QUICK = ("perennial", "fastapi", "fastapi-tuned", "litserve")


def named(name: str) -> Server:
    """The server of this name; raises KeyError."""
    return {server.name: server for server in SERVERS}[name]
