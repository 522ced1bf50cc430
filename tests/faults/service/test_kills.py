"""Processes are killed under load: nobody waits beyond the timeout, the service is whole again, nothing is lost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.faults.service.conftest import TIMEOUT
from tests.faults.service.load import CONNECTIONS, asking
from tests.faults.service.mortal import Store
from tests.service.serving import Serving, answers, rows
from tests.support.processes import python, running, wait_ready
from tests.support.waiting import wait_until

PATIENCE = 2 * TIMEOUT + 4
"""Seconds after which a client says that it hangs: the service's timeout, and room for a machine that is busy."""

KILLS = 3


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def workers(service: Serving) -> list[psutil.Process]:
    """The living workers."""
    return [one for one in service.processes()[1:] if alive(one) and "spawn_main" in " ".join(one.cmdline())]


def test_a_worker_killed_under_load_leaves_no_client_waiting(
    service: Serving, own_store: Store, tmp_path: Path, say: Callable[[str], None]
) -> None:
    took = []
    with asking(service.url, rows(50), PATIENCE) as load:
        load.flow(0.5)
        for _ in range(KILLS):
            workers(service)[0].kill()
            since = time.monotonic()
            wait_until(lambda: whole(service), 30, "the service to be whole again")
            took.append(time.monotonic() - since)
            load.flow(1)
    answered = {answer.id for answer in load.answers}
    wait_until(lambda: not list((tmp_path / "home" / "small" / "service" / "spool").glob("*.db")), 30, "spools to be empty")
    wait_until(lambda: settled(service, own_store, answered), 20, "the dead processes' progress files to be settled")
    missing, lost = answered - set(own_store.streamed()), service.metric("perennial_log_lost_total")
    say(
        f"{KILLS} kills, whole again after {', '.join(f'{one:.1f}' for one in took)} s; {len(load.answers)} answers, "
        f"refused {dict(load.refused)}, connections broken {load.broken}, hanging {load.hung}; "
        f"answered and not in the stream {len(missing)}, counted as lost {lost:.0f}"
    )
    assert load.hung == 0
    assert load.refused == {}, "a killed worker's clients lose their connection, and connect to the other one"
    assert load.broken <= KILLS * CONNECTIONS
    assert (len(missing), lost) == (0, 0), "what is in a worker's memory is in its journal too"


def whole(service: Serving) -> bool:
    """Both workers answer."""
    if len(workers(service)) != 2:
        return False
    try:
        return service.versions() == [1, 1] and service.predict(rows(1)).status_code == 200
    except httpx.HTTPError:
        return False  # the process that was asked has just been killed


def settled(service: Serving, store: Store, answered: set[str]) -> bool:
    """What is not in the stream has been brought in, or counted as lost."""
    return len(answered - set(store.streamed())) <= service.metric("perennial_log_lost_total")


def test_the_main_process_killed_under_load_leaves_neither_process_nor_port(
    service: Serving, own_store: Store, tmp_path: Path, say: Callable[[str], None]
) -> None:
    everyone, spool = service.processes(), tmp_path / "home" / "small" / "service" / "spool"
    with asking(service.url, rows(50), PATIENCE) as load:
        load.flow(0.5)
        service.process.kill()
        since = time.monotonic()
        wait_until(lambda: not [one for one in everyone if alive(one)], 20, "every process to be gone")
        gone = time.monotonic() - since
    with again(service, own_store, tmp_path) as log:
        whole_after = time.monotonic() - since
        assert service.predict(rows(1)).status_code == 200
        wait_until(lambda: len(list(spool.glob("*.progress"))) == 2, 20, "the dead processes' progress files to be settled")
        wait_until(lambda: not list(spool.glob("*.db")), 20, "their spools to be brought in")
        counted = "are in no log" in log.read_text()
    missing = {answer.id for answer in load.answers} - set(own_store.streamed())
    say(
        f"gone {gone:.1f} s after the kill, another answers on the port {whole_after:.1f} s after it; "
        f"{len(load.answers)} answers, refused {dict(load.refused)}, hanging {load.hung}; "
        f"not in the stream {len(missing)}, a loss reported: {counted}"
    )
    assert load.hung == 0
    assert set(load.refused) <= {503, 504}
    assert not missing
    assert not counted


@contextmanager
def again(service: Serving, store: Store, tmp_path: Path) -> Iterator[Path]:
    """The same service on the same port; yields its log."""
    port, log = service.url.rsplit(":", 1)[1], tmp_path / "again.log"
    environment = {
        "REDIS_URL": store.url,
        "PERENNIAL_HOME": str(tmp_path / "home"),
        "PERENNIAL_PORT": port,
        "PERENNIAL_WORKERS": "2",
    }
    with running(python("-m", "service", "--spec", str(tmp_path / "home" / "small.toml")), log, environment) as process:
        wait_ready(process, lambda: answers(service.url), log, 60, "the service")
        yield log
