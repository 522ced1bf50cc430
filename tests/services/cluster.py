"""The roles brought up, two of each that may be two, and one of them lost for good."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from deployments.deploy import POOL
from deployments.prefect_client import FLEET, PrefectClient
from deployments.stack.health import is_healthy
from deployments.stack.process_tree import process_tree
from tests.services import debian_services
from tests.services.roles import Process, Roles
from tests.support.prefect_server import healthy
from tests.support.processes import ROOT, free_port, python, wait_ready
from tests.support.waiting import wait_until

PREFECT_SERVER = ROOT / ".venv-prefect-server" / "bin" / "prefect"
"""One that knows Redis, as Prefect's own image does."""

PERENNIAL = python("-c", "from deployments.cli import main; main()")
ESTABLISHED = "01"  # in the states of /proc/net/tcp
START_TIMEOUT = 300.0
"""Seconds for one process; a Prefect server's first start on a database takes 30, and two cores have ten processes to start."""


@dataclass(frozen=True)
class Cluster:
    """All of them; `service_url` and `prefect_url` are nginx's, `replica_ports` are behind."""

    roles: Roles
    service_url: str
    prefect_url: str
    servers: Sequence[Process]
    workers: Sequence[Process]
    replicas: Sequence[Process]
    replica_ports: Sequence[int]

    def api(self) -> PrefectClient:
        """A client of the Prefect servers."""
        return PrefectClient(self.prefect_url, {"PREFECT_API_AUTH_STRING": self.roles.secret("PREFECT_API_AUTH_STRING")})

    def prometheus(self, path: str, **query: str) -> Any:
        """What Prometheus answers."""
        answer = httpx.get(f"http://127.0.0.1:{self.roles.ports['prometheus']}/api/v1/{path}", params=query, timeout=30)
        return answer.raise_for_status().json()["data"]

    def worker_of(self, pid: int) -> Process | None:
        """The worker that has started a process."""
        return next((worker for worker in self.workers if pid in [one.pid for one in process_tree(worker.pid)]), None)


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Bring up what the others need first; everything is ended when the block is left."""
    roles, replicas, servers = Roles(directory), (free_port(), free_port()), (free_port(), free_port())
    ports = {8000: roles.ports["service"], 4200: roles.ports["prefect"]}
    ports |= dict(zip((8001, 8002, 4201, 4202), (*replicas, *servers), strict=True))
    with ExitStack() as started:
        _start_daemons(roles, ports, started)
        # One after the other: of two that find an empty database both make its tables, and one fails.
        found = [_start_server(roles, f"server-{port}", port, started) for port in servers]
        roles.command(*PERENNIAL, "deploy", roles.specs)
        cluster = Cluster(
            roles=roles,
            service_url=f"http://127.0.0.1:{roles.ports['service']}",
            prefect_url=f"http://127.0.0.1:{roles.ports['prefect']}/api",
            servers=found,
            workers=[_start_worker(roles, f"worker-{number}", started) for number in (1, 2)],
            replicas=[_start_replica(roles, f"replica-{port}", port, started) for port in replicas],
            replica_ports=replicas,
        )
        _await_ready(cluster)
        yield cluster


def kill(process: Process) -> None:
    """SIGKILL a process and all that it has started, as when its machine is lost."""
    for one in process_tree(process.pid):
        with suppress(psutil.Error):
            one.kill()
    process.wait(10)


def kill_over_request(process: Process, port: int) -> None:
    """The same of a server, while a request waits for its answer."""
    for one in process_tree(process.pid):
        one.suspend()
    wait_until(lambda: _unread_bytes(port), 60, f"a request to wait at port {port}")
    kill(process)


def _unread_bytes(port: int) -> int:
    """What lies in the connections to a port and its process has not read, as Linux counts it."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [one for one in sockets if int(one[1].rpartition(":")[2], 16) == port and one[3] == ESTABLISHED]
    return sum(int(one[4].rpartition(":")[2], 16) for one in ours)


def _start_daemons(roles: Roles, ports: dict[int, int], started: ExitStack) -> None:
    site, metrics = roles.directory / "nginx", roles.directory / "prometheus"
    site.mkdir()
    metrics.mkdir()
    password, url = roles.secret("postgres_password"), roles.secret("REDIS_URL")
    started.enter_context(debian_services.postgres(roles.ports["postgres"], password, roles.log("postgres")))
    both = roles.ports["redis"], roles.ports["redis-tls"]
    redis = debian_services.redis_server(both, roles.options("redis"), url, roles.store, roles.log("redis"))
    started.enter_context(redis)
    started.enter_context(debian_services.nginx(ports, site, roles.log("nginx")))
    replicas, log = [f"127.0.0.1:{ports[behind]}" for behind in (8001, 8002)], roles.log("prometheus")
    started.enter_context(debian_services.prometheus(roles.ports["prometheus"], replicas, metrics, log))


def _start_server(roles: Roles, name: str, port: int, started: ExitStack) -> Process:
    command = [PREFECT_SERVER, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = started.enter_context(roles.run("prefect", name, command))
    wait_ready(process, lambda: healthy(f"http://127.0.0.1:{port}/api"), roles.log(name), START_TIMEOUT, name)
    return process


def _start_worker(roles: Roles, name: str, started: ExitStack) -> Process:
    """A worker of all queues; it is killed in the end, for its runs would outlive it."""
    command = python("-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name)
    process = started.enter_context(roles.run("worker", name, command, PREFECT_WORKER_QUERY_SECONDS="1"))
    started.callback(kill, process)
    return process


def _start_replica(roles: Roles, name: str, port: int, started: ExitStack) -> Process:
    command = python("-m", "service", "--spec", str(roles.specs))
    where = {"PERENNIAL_HOST": "127.0.0.1", "PERENNIAL_PORT": str(port)}
    return started.enter_context(roles.run("service", name, command, **where))


def _await_ready(cluster: Cluster) -> None:
    """Until replicas and workers answer; then the monitor begins, for which the schedule would take up to five minutes."""
    for port, process in zip(cluster.replica_ports, cluster.replicas, strict=True):
        name = f"replica-{port}"
        wait_ready(process, partial(is_healthy, f"http://127.0.0.1:{port}"), cluster.roles.log(name), START_TIMEOUT, name)
    with cluster.api() as api:
        began = datetime.now(UTC)
        wait_until(lambda: len(api.online_workers(POOL, began)) == len(cluster.workers), START_TIMEOUT, "both workers")
        api.start_run(api.deployment_id(f"monitor/{FLEET}"))
