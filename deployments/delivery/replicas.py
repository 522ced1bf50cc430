"""The local replicas of the service: what each runs, kept in a file; a supervisor of their own keeps them alive.

A release is the Python interpreter of the environment in which it is installed, such as `.venv/bin/python`. The replicas share
the store, the registry and the home directory of the stack beside which they run; each has a port of its own.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from deployments.delivery import proxy
from deployments.stack import supervisord
from deployments.stack.ports import PortReservations
from deployments.stack.supervisord import Program
from perennial.atomic_files import replace_stored
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import StackError

FIRST_PORT, PROXY_PORT = 8101, 8100  # preferred; the next free ones are taken
PROXY = "proxy"


class Replica(FrozenModel):
    """One service process group."""

    name: str
    port: int
    release: str = Field(description="the interpreter that runs it")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Delivery(StoredModel):
    """The replicas, what was run before the newest promotion, and the proxy in front of them."""

    directory: Path = Field(description="absolute directory of the delivery's own files")
    run_in: Path = Field(description="where the replicas run; relative paths of tables start here")
    spec: Path
    replicas: tuple[Replica, ...]
    proxy_port: int | None = Field(None, description="None where there is no nginx: clients choose a replica themselves")
    previous: str | None = Field(None, description="the release before this one, to which `rollback-release` returns")

    @property
    def socket(self) -> Path:
        return supervisord.socket_path(self.directory)

    def running(self, name: str, release: str) -> "Delivery":
        """The same with one replica at this release."""
        replicas = tuple(one.model_copy(update={"release": release}) if one.name == name else one for one in self.replicas)
        return self.model_copy(update={"replicas": replicas})


def plan_delivery(home: Path, spec: Path, release: str) -> Delivery:
    """Two replicas of a release, and a proxy before them where nginx is installed; raises StackError without a free port."""
    with PortReservations() as ports:
        first = ports.find("127.0.0.1", FIRST_PORT)
        second = ports.find("127.0.0.1", first + 1)
        front = ports.find("127.0.0.1", PROXY_PORT, (first, second)) if proxy.find_nginx() else None
    replicas = (Replica(name="replica-1", port=first, release=release), Replica(name="replica-2", port=second, release=release))
    directory = home.absolute() / "delivery"
    return Delivery(directory=directory, run_in=Path.cwd(), spec=spec.absolute(), replicas=replicas, proxy_port=front)


def load_delivery(home: Path) -> Delivery | None:
    """The delivery of this home directory, if its supervisor runs."""
    directory = home.absolute() / "delivery"
    if supervisord.find_supervisor(directory) is None:
        return None
    return read_stored(Delivery, (directory / "delivery.json").read_bytes(), "delivery.json")


def start(delivery: Delivery, environment: Mapping[str, str]) -> None:
    """Start replicas and proxy under a supervisor; raises StackError."""
    if "REDIS_URL" not in environment:
        raise StackError("the replicas need a store: run `perennial up SPEC`, or set REDIS_URL")
    apply(delivery, restart=False)
    if delivery.proxy_port is not None:
        proxy.write_config(delivery.directory, delivery.proxy_port, {one.port: 1 for one in delivery.replicas})
    supervisord.start(delivery.directory, environment)


def apply(delivery: Delivery, *, restart: bool = True) -> None:
    """Write down what the replicas run, and start those anew that run something else; each ends its requests first."""
    supervisord.write_config(delivery.directory, delivery.socket, _programs(delivery))
    replace_stored(delivery.directory / "delivery.json", delivery, indent=2)
    if restart:
        supervisord.update_programs(delivery.socket)


def stop(delivery: Delivery) -> None:
    """End replicas and proxy."""
    supervisord.stop(delivery.directory, delivery.socket)


def _programs(delivery: Delivery) -> tuple[Program, ...]:
    found = [_program(delivery, one) for one in delivery.replicas]
    if delivery.proxy_port is not None:
        command = proxy.command(delivery.directory)
        found.append(Program(name=PROXY, command=command, order=20, directory=delivery.directory))
    return tuple(found)


def _program(delivery: Delivery, replica: Replica) -> Program:
    command = (replica.release, "-m", "service", "--spec", str(delivery.spec))
    port = {"PERENNIAL_PORT": str(replica.port), "PERENNIAL_HOST": "127.0.0.1"}
    return Program(name=replica.name, command=command, order=10, directory=delivery.run_in, environment=port)
