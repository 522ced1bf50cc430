"""Processes: what happens when one of them, or the store, goes away, and that nothing is left when the service ends."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.serving import Serving, registry_of, rows, serving
from tests.service.test_swap import traffic
from tests.support import models
from tests.support.processes import free_port, python, running, wait_ready
from tests.support.store import answers as store_answers
from tests.support.store import valkey, valkey_binary
from tests.support.waiting import wait_until

END = 10.0
"""Seconds in which a service that is told to end is gone with everything it started."""


@pytest.fixture
def mortal(tmp_path: Path, store_url: str) -> Iterator[Serving]:
    """A service of the test's own, which may be killed."""
    models.publish_small(registry_of(tmp_path), models.small_model())
    with serving(tmp_path, store_url, perennial_workers=2) as service:
        wait_until(lambda: service.versions() == [1, 1], 30, "both workers to answer")
        yield service


def gone(processes: list[psutil.Process]) -> bool:
    return not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_main_process_ends_all_and_loses_nothing(mortal: Serving, number: int) -> None:
    everyone = mortal.processes()
    assert len(everyone) >= 3, "main, two workers, and Python's resource tracker where it has one"
    answered = [one["id"] for start in range(0, 500, 10) for one in mortal.predict(rows(10, start)).json()["predictions"]]
    mortal.process.send_signal(number)
    assert mortal.process.wait(END) == 0
    wait_until(lambda: gone(everyone), 2, "every process to be gone")
    assert set(answered) <= set(mortal.logged_ids())


def test_a_signal_to_the_whole_group_under_load_cuts_off_no_answer(mortal: Serving) -> None:
    everyone = mortal.processes()
    with traffic(mortal, [{"amount": 1, "shop": "north"}]) as got:
        wait_until(lambda: len(got.answers) > 50, 30, "traffic to flow")
        os.killpg(mortal.process.pid, signal.SIGTERM)
        assert mortal.process.wait(END) == 0
    # A new connection is refused, an idle one may be closed under a request; what was taken in is answered.
    assert not [failure for failure in got.failures if "error" in failure and "code" in failure], got.failures[:3]
    wait_until(lambda: gone(everyone), 2, "every process to be gone")
    logged = mortal.logged_ids()
    assert len(logged) == len(set(logged)) >= len(got.answers)


def test_when_the_main_process_is_killed_nobody_stays(mortal: Serving) -> None:
    everyone = mortal.processes()
    mortal.process.kill()
    wait_until(lambda: gone(everyone), END, "the orphans to end")


def test_a_killed_worker_is_started_again(mortal: Serving) -> None:
    killed = mortal.worker()
    killed.kill()
    wait_until(lambda: "starting it again" in mortal.log.read_text(), 10, "the loss to be noticed")
    wait_until(lambda: mortal.versions() == [1, 1], 30, "both workers to answer")
    assert [mortal.predict(rows(1, start)).status_code for start in range(20)] == [200] * 20
    assert not psutil.pid_exists(killed.pid) or gone([killed])


def test_the_main_process_loads_neither_lightgbm_nor_polars_and_workers_nothing_that_only_trains(service: Serving) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("the loaded libraries are read from /proc")
    service.predict(rows(1))
    service.client.get("/model")
    loaded = [libraries(process.pid) for process in service.processes()]
    assert [found for found in loaded if found] == [["lightgbm", "polars"]] * 2


def libraries(pid: int) -> list[str]:
    """Which of the heavy ones a process has loaded; each brings a shared library."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in ("lightgbm", "pandas", "polars", "pyarrow", "sklearn") if name in maps]


def test_a_store_that_goes_away_loses_no_prediction_and_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    models.publish_small(registry_of(tmp_path / "home"), models.small_model())
    port, answered = free_port(), []
    with _store(tmp_path / "store", port) as url, serving(tmp_path / "home", url) as service:
        answered += _predict_some(service, 0)
        wait_until(lambda: len(service.logged_ids()) == 30, 10, "the first predictions to be logged")
        main = service
        store_process = _listener(port)
        store_process.kill()
        answered += _predict_some(main, 30)
        refused = service.client.post("/feedback", json={"labels": [{"id": "row-1", "label": 1}]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert "REDIS_URL" in refused.json()["error"]["message"]
        wait_until(lambda: service.metric("perennial_log_spool_waiting") == 30, 10, "thirty rows to wait in the spool")
        assert service.client.get("/ready").json()["log"] == "spool"
        with valkey(tmp_path / "store", port):
            wait_until(lambda: service.metric("perennial_log_spool_waiting") == 0, 20, "the rows to be written")
            assert service.client.post("/feedback", json={"labels": [{"id": "row-1", "label": 1}]}).status_code == 202
            assert service.logged_ids() == answered


@contextmanager
def _store(directory: Path, port: int) -> Iterator[str]:
    url = f"redis://127.0.0.1:{port}/0"
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""]
    with running([valkey_binary(), *where, "--appendonly", "yes", "--appendfsync", "always"], directory / "log") as process:
        wait_ready(process, lambda: store_answers(url), directory / "log", 20, "valkey")
        yield url


def _listener(port: int) -> psutil.Process:
    children = psutil.Process().children()
    return next(child for child in children if "valkey-server" in child.name() and str(port) in " ".join(child.cmdline()))


def _predict_some(service: Serving, start: int) -> list[str]:
    responses = [service.predict(rows(10, first)) for first in range(start, start + 30, 10)]
    return [one["id"] for response in responses for one in response.json()["predictions"]]


def test_a_worker_that_hangs_is_replaced_and_keeps_no_client_for_longer(tmp_path: Path, store_url: str) -> None:
    """One worker of two hangs: its clients lose their connection in bounded time, the other one answers all the while."""
    models.publish_small(registry_of(tmp_path), models.small_model())
    with serving(tmp_path, store_url, perennial_timeout=1, perennial_workers=2) as service:
        wait_until(lambda: service.versions() == [1, 1], 30, "both workers to answer")
        worker = service.worker()
        worker.suspend()
        with ThreadPoolExecutor(20) as pool:
            codes = list(pool.map(lambda start: ask_once(service.url, start), range(20)))
        wait_until(lambda: "has hung for" in service.log.read_text(), 20, "the worker to be found hanging")
        wait_until(lambda: service.versions() == [1, 1], 30, "another worker in its place")
    assert set(codes) <= {200, 0}, "answered by the other, or cut off; never an answer that says something else"
    assert 200 in codes


def ask_once(url: str, start: int) -> int:
    """The status of a prediction on a connection of its own; 0 when the connection ended. Waiting on is an error."""
    try:
        return httpx.post(f"{url}/predict", json={"instances": rows(1, start)}, timeout=30).status_code
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        return 0


def test_many_clients_at_once_are_all_answered(service: Serving) -> None:
    def ask(start: int) -> int:
        return httpx.post(f"{service.url}/predict", json={"instances": rows(1, start)}, timeout=30).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(100))) == {200}


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        python("-m", "service", *args), env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_start_that_cannot_work_is_one_clear_line(tmp_path: Path, service: Serving, store_url: str) -> None:
    spec = str(models.write_small(tmp_path))
    port = service.url.rsplit(":", 1)[1]
    cases = [
        (run("--spec", spec), "REDIS_URL is not set"),
        (run("--spec", "nowhere.toml", REDIS_URL=store_url), "no spec at nowhere.toml"),
        (run("--spec", spec, REDIS_URL=store_url, PERENNIAL_PORT=port), f"cannot listen on 127.0.0.1:{port}"),
        (run("--spec", spec, REDIS_URL=store_url, PERENNIAL_WORKER="2"), "did you mean PERENNIAL_WORKERS"),
    ]
    for result, message in cases:
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
