"""The end: readiness goes first, what was taken in is answered and logged, nobody stays; as PID 1 of a container too."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.service.load import asking
from tests.faults.service.mortal import Store
from tests.service.serving import START_TIMEOUT, answers, registry_of, rows, serving
from tests.support import models
from tests.support.processes import free_port, python, running, wait_ready
from tests.support.waiting import wait_until

END = 10.0
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]


def test_readiness_goes_before_the_service_does(tmp_path: Path, own_store: Store, say: Callable[[str], None]) -> None:
    models.publish_small(registry_of(tmp_path / "home"), models.small_model())
    with serving(tmp_path / "home", own_store.url, perennial_lame_duck=1.5) as service, asking(service.url, rows(20), 20) as load:
        load.flow(0.5)
        assert service.client.get("/ready").status_code == 200
        service.process.terminate()
        since = time.monotonic()
        ready = wait_until(lambda: said_no(service.client), 10, "readiness to go")
        said = time.monotonic()
        wait_until(lambda: load.answers[-1].at > said, 10, "a request asked after that to be answered")
        assert service.process.wait(END) == 0
        took = time.monotonic() - since
    answered = {answer.id for answer in load.answers}
    streamed = set(own_store.streamed())
    missing = answered - streamed
    say(f"not ready {said - since:.2f} s after SIGTERM, gone after {took:.1f} s; {len(answered)} answers, {len(missing)} missing")
    assert ready.json()["error"]["code"] == "ending"
    assert (load.refused, load.hung) == ({}, 0)
    assert answered <= streamed
    assert not list((tmp_path / "home" / "small" / "service" / "spool").iterdir())


def test_who_connects_after_the_end_is_refused_and_not_left_to_wait(tmp_path: Path, own_store: Store) -> None:
    """A load balancer that is refused asks another replica; of one that waited and was cut off it cannot know what came of it."""
    models.publish_small(registry_of(tmp_path / "home"), models.small_model())
    with serving(tmp_path / "home", own_store.url, perennial_lame_duck=0.5) as service:
        where = "127.0.0.1", int(service.url.rpartition(":")[2])
        with socket.create_connection(where) as slow:  # a request whose body does not come: the service waits for it
            slow.sendall(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
            wait_until(lambda: service.metric("perennial_in_flight") == 2, 10, "the slow request to be in flight")
            service.process.terminate()
            wait_until(lambda: is_refused(where), 3, "connections to be refused")
            assert service.process.poll() is None, "it still has a request in flight"
        assert service.process.wait(END) == 0


def is_refused(where: tuple[str, int]) -> bool:
    try:
        socket.create_connection(where, timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def said_no(client: httpx.Client) -> httpx.Response | None:
    response = client.get("/ready")
    return response if response.status_code == 503 else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_the_first_process_of_a_container_it_ends_as_anywhere(
    tmp_path: Path, own_store: Store, say: Callable[[str], None], number: int
) -> None:
    if not may_unshare():
        pytest.skip("this system lets nobody make a process namespace")
    models.publish_small(registry_of(tmp_path), models.small_model())
    spec, port, log = models.write_small(tmp_path), free_port(), tmp_path / "log"
    environment = {"REDIS_URL": own_store.url, "PERENNIAL_HOME": str(tmp_path), "PERENNIAL_PORT": str(port)}
    command = [*NAMESPACE, *python("-m", "service", "--spec", str(spec))]
    with running(command, log, environment) as process:
        url = f"http://127.0.0.1:{port}"
        wait_ready(process, lambda: answers(url), log, START_TIMEOUT, "service")
        (first,) = psutil.Process(process.pid).children()
        assert own_pid(first) == 1
        with asking(url, rows(20), 20, connections=4) as load:
            load.flow(0.5)
            first.send_signal(number)
            since = time.monotonic()
            assert process.wait(END) == 0
            took = time.monotonic() - since
    answered, streamed = {answer.id for answer in load.answers}, set(own_store.streamed())
    say(f"gone after {took:.1f} s; {len(answered)} answers, {len(answered - streamed)} missing")
    assert (load.refused, load.hung) == ({}, 0)
    assert answered <= streamed
    assert not list((tmp_path / "small" / "service" / "spool").iterdir())


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


def own_pid(process: psutil.Process) -> int:
    """The process's id as it sees it itself."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
