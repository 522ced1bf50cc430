"""What the stack asks of a Prefect API, and runs whose process is gone, against this session's real server."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from deployments.prefect_client import ACTION_FAILED, STARTED, PrefectClient
from deployments.stack.lost_runs import AUTOMATION_TIME, end_lost_runs, restart_crashed
from monitoring.prefect_api import CERTIFICATES
from perennial.errors import PrefectUnreachable
from tests.deployments.conftest import deployed
from tests.support.certificates import make_certificate
from tests.support.http_server import QuietHandler, http_server
from tests.support.tls_proxy import tls_proxy
from tests.support.waiting import wait_until

POOL = "crashed"
NOBODY = str(2**22)
"""A number that no process has: the kernel's go up to the one before."""


@pytest.fixture
def client(prefect_api: str) -> Iterator[PrefectClient]:
    with PrefectClient(prefect_api, {}) as api:
        yield api


@pytest.fixture
def deployment(client: PrefectClient) -> Iterator[str]:
    """A deployment in a pool that has no worker."""
    yield deployed(client, POOL)
    httpx.delete(f"{client.url}/work_pools/{POOL}").raise_for_status()


def test_a_pool_is_known_or_not(client: PrefectClient, deployment: str) -> None:
    assert client.healthy()
    assert client.has_pool(POOL)
    assert not client.has_pool("nobody")
    assert client.online_workers("nobody", datetime.now(UTC)) == ()
    assert client.deployment_id("crashed/crashed") == deployment


def test_an_api_that_is_away_is_named_with_the_fix() -> None:
    with PrefectClient("http://127.0.0.1:9/api", {}) as nobody:
        assert not nobody.healthy()
        with pytest.raises(PrefectUnreachable, match=r"http://127.0.0.1:9/api does not answer .*PREFECT_API_URL"):
            nobody.has_pool(POOL)


def test_an_api_behind_tls_is_trusted_as_prefects_own_client_trusts_it(prefect_api: str, tmp_path: Path) -> None:
    certificate, port = make_certificate(tmp_path), httpx.URL(prefect_api).port
    assert port
    with tls_proxy(certificate, port) as encrypted:
        url = f"https://127.0.0.1:{encrypted}/api"
        with PrefectClient(url, {CERTIFICATES: str(certificate)}) as api:
            assert api.healthy()
            assert not api.has_pool("nobody")
        with PrefectClient(url, {}) as strict, pytest.raises(PrefectUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            strict.has_pool("nobody")
    missing = tmp_path / "missing.pem"
    with pytest.raises(PrefectUnreachable, match=f"{CERTIFICATES}={missing} cannot be read"):
        PrefectClient("https://127.0.0.1:9/api", {CERTIFICATES: str(missing)})


def test_a_refusal_is_named(client: PrefectClient) -> None:
    with pytest.raises(PrefectUnreachable, match=r"refuses GET /deployments/name/no/such: 404"):
        client.deployment_id("no/such")


def test_a_server_that_is_busy_is_asked_again() -> None:
    """Prefect answers 503 when its SQLite file is locked; nothing was done then."""
    answers = [(503, {"exception_message": "Service Unavailable"}), (200, {"id": "one"})]
    with answering(answers) as url, PrefectClient(url, {}) as api:
        assert api.start_run("some-deployment") == "one"
    assert answers == []


@contextmanager
def answering(answers: list[tuple[int, dict[str, str]]]) -> Iterator[str]:
    """A server that gives these answers one after the other, whatever it is asked."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the base class's name
            status, body = answers.pop(0)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    with http_server(Handler) as url:
        yield url


def test_runs_without_a_process_are_ended_and_requested_ones_stay(client: PrefectClient, deployment: str) -> None:
    started, asked = client.start_run(deployment), client.start_run(deployment)
    _post(client, f"/flow_runs/{started}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    assert client.end_crashed_runs(POOL, datetime.now(UTC)) == 1
    assert [run.id for run in client.pool_runs(POOL, ("CRASHED",))] == [started]
    assert [run.id for run in client.pool_runs(POOL, ("SCHEDULED",))] == [asked]
    assert client.end_crashed_runs(POOL, datetime.now(UTC)) == 0


def test_runs_that_a_killed_worker_had_taken_are_ended_unless_a_process_may_work_on_them(
    client: PrefectClient, deployment: str
) -> None:
    def taken(state: str, process: str | None) -> str:
        run = client.start_run(deployment)
        _post(client, f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
        httpx.patch(f"{client.url}/flow_runs/{run}", json={"infrastructure_pid": process}).raise_for_status()
        return run

    lost = {taken("PENDING", None), taken("PENDING", NOBODY), taken("RUNNING", NOBODY)}
    kept = {taken("RUNNING", None), taken("RUNNING", str(os.getpid())), taken("RUNNING", "cluster:job")}
    before = datetime.now(UTC)
    own = taken("PENDING", None)
    assert end_lost_runs(client, POOL, before) == 3
    assert {run.id for run in client.pool_runs(POOL, ("CRASHED",))} == lost
    assert {run.id for run in client.pool_runs(POOL, STARTED)} == {*kept, own}
    assert end_lost_runs(client, POOL, before) == 0


def test_a_deployment_whose_newest_run_has_crashed_is_started_once_unless_something_else_has_started_it(
    client: PrefectClient,
) -> None:
    deployment, name = deployed(client, "restarted"), "restarted"

    def restarted() -> bool:
        return restart_crashed(client, name, name, datetime.now(UTC) + 2 * AUTOMATION_TIME)

    assert not restarted(), "it has never run"
    crashed = client.start_run(deployment)
    assert not restarted(), "its run waits"
    client.end_run(crashed, "CRASHED", "")
    assert not restart_crashed(client, name, name, datetime.now(UTC)), "its automation has not had its time"
    assert restarted()
    assert not restarted(), "its run waits again"
    (waiting,) = client.pool_runs(name, ("SCHEDULED",))
    client.end_run(waiting.id, "CANCELLED", "a person's wish")
    assert not restarted()
    httpx.delete(f"{client.url}/work_pools/{name}").raise_for_status()


def test_a_scheduled_run_is_skipped_when_its_time_has_passed(client: PrefectClient, deployment: str) -> None:
    _post(client, f"/deployments/{deployment}/schedules", [{"schedule": {"interval": 300}, "active": True}])
    wait_until(lambda: client.pool_runs(POOL, ("SCHEDULED",)), 60, "the schedule to plan runs")
    planned = len(client.pool_runs(POOL, ("SCHEDULED",)))
    assert client.end_crashed_runs(POOL, datetime.now(UTC) + timedelta(seconds=450)) in (1, 2)
    assert len(client.pool_runs(POOL, ("SCHEDULED",))) >= planned - 2


def test_an_automation_that_could_not_act_is_found(client: PrefectClient) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": ACTION_FAILED,
        "resource": {"prefect.resource.id": "prefect.automation.x"},
        "payload": {"action_type": "run-deployment", "reason": "Unexpected status from 'run-deployment' action: 422"},
        "id": "7f7a9a0e-3c1b-4b0e-8b0e-0d5d6b7a9a0e",
    }
    _post(client, "/events", [event])
    (failure, *_) = wait_until(lambda: client.failed_actions(began), 20, "the event to be stored")
    assert "automation run-deployment failed: Unexpected status from 'run-deployment' action: 422" in failure
    assert client.failed_actions(datetime.now(UTC) + timedelta(days=1)) == ()


def _post(client: PrefectClient, path: str, body: object) -> dict[str, object]:
    answer = httpx.post(client.url + path, json=body, timeout=30)
    answer.raise_for_status()
    return answer.json() if answer.content else {}
