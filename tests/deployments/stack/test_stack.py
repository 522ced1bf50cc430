"""The whole local stack, really up: from an event to a retraining, over deaths of its components, and down without a trace."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.cli import run
from deployments.deploy import POOL
from deployments.prefect_client import FLEET, STARTED, PrefectClient
from deployments.stack import programs, supervisord
from deployments.stack import stack as stacks
from deployments.stack.embedded_redis import store_is_up
from deployments.stack.ports import PortReservations
from deployments.stack.state import PREFECT, STORE, WORKER, Stack, load_stack, state_dir
from deployments.stack.status import stack_status
from monitoring.events import DRIFT_DETECTED, ModelEvent, deterministic_id, request_event, send
from monitoring.lease import lease_key
from monitoring.policy import RetrainRequest
from perennial.errors import PrefectUnreachable, SpecError, StackError, StoreUnreachable
from perennial.settings import Settings
from service.prediction_log.redis_client import connect
from tests.deployments.conftest import FLIGHTS
from tests.support.prefect_server import pointed_at
from tests.support.processes import ROOT, free_port
from tests.support.waiting import wait_until

WEEK = datetime(2013, 3, 8, tzinfo=UTC)

COOLDOWN = timedelta(seconds=6)
"""A little more than `within` in prefect.yaml."""


def now() -> datetime:
    return datetime.now(UTC)


def again(settings: Settings) -> Stack:
    return stacks.up([FLIGHTS], settings, os.environ, now())[0]


def runs(api: PrefectClient, flow: str) -> list[dict[str, Any]]:
    """Runs of a flow's deployment, as the API tells them."""
    wanted = {"deployments": {"id": {"any_": [api.deployment_id(f"{flow}/{FLEET}")]}}}
    answer = httpx.post(f"{api.url}/flow_runs/filter", json=wanted, timeout=30)
    return list(answer.raise_for_status().json())


def request(week: int, text: str = "") -> RetrainRequest:
    """What a monitor asks for when a week of March has drifted."""
    end = WEEK + timedelta(days=7 * week)
    return RetrainRequest(
        model="flights",
        version=1,
        window_start=end - timedelta(days=7),
        window_end=end,
        cause="drift",
        reason=text or "drift 0.3 above its bound 0.2",
        evidence={"drift": 0.3, "bound": 0.2},
        event_id=deterministic_id("test", week),
    )


def retrained_by(api: PrefectClient, asked: RetrainRequest) -> list[dict[str, Any]]:
    """Retrain runs that carry a request as their `event` parameter."""
    return [run for run in runs(api, "retrain") if run["parameters"].get("event") == asked.model_dump(mode="json")]


def ask(stack: Stack, asked: RetrainRequest) -> None:
    """Send a request, but not into the cooldown of the automation after an earlier one: it would be passed over.

    Prefect has it on disk when this returns: a server killed before would have forgotten the event, and not the cooldown.
    """
    with PrefectClient(stack.prefect.url, {}) as api, pointed_at(stack.prefect.url):
        wait_until(lambda: not api.events(DRIFT_DETECTED, now() - COOLDOWN), 30, "the automation's cooldown to pass")
        sent = request_event(asked, now(), str(FLIGHTS))
        send(sent)
        wait_until(lambda: _stored(api, sent), 30, "the event to be kept")


def _stored(api: PrefectClient, sent: ModelEvent) -> bool:
    return any(one["id"] == sent.id for one in api.events(sent.name, sent.occurred))


def wait_healthy(stack: Stack) -> None:
    # A monitor that died with its server is started again once a minute.
    wait_until(lambda: stack_status(stack, {}, datetime.now(UTC)).healthy, 180, "every component to run")


def test_every_component_is_healthy(stack: Stack) -> None:
    found = stack_status(stack, {}, datetime.now(UTC))
    states = {one.name: one.state for one in found.components}
    running = dict.fromkeys(("store", "prefect", "worker", "monitor"), "running")
    assert states == {**running, "service": "no model yet"}
    assert found.healthy
    assert all(one.memory_mb and one.pid for one in found.components[:-1])
    assert found.failures == ()


def test_the_schedule_plans_monitor_runs(stack: Stack, api: PrefectClient) -> None:
    def planned() -> bool:
        return any(run["auto_scheduled"] for run in runs(api, "monitor"))

    assert wait_until(planned, 60, "the schedule to plan runs: SQLAlchemy 2.1 breaks Prefect 3.8's scheduler")


def test_a_monitor_is_at_work_at_once(stack: Stack, api: PrefectClient) -> None:
    assert any(not run["auto_scheduled"] for run in runs(api, "monitor"))


def test_up_again_leaves_what_runs_alone(stack: Stack, stack_settings: Settings, api: PrefectClient) -> None:
    before = {name: state.pid for name, state in supervisord.states(stack.socket).items()}
    asked_for = sum(not run["auto_scheduled"] for run in runs(api, "monitor"))
    assert again(stack_settings) == stack
    assert {name: state.pid for name, state in supervisord.states(stack.socket).items()} == before
    assert sum(not run["auto_scheduled"] for run in runs(api, "monitor")) <= asked_for + 1


def test_two_ups_at_once_are_refused(stack: Stack, stack_settings: Settings) -> None:
    with PortReservations() as locks:
        assert locks.lock(stack.state_dir / "lock")
        with pytest.raises(StackError, match="another `perennial up` is at work"):
            again(stack_settings)


def test_an_event_starts_one_retraining_with_its_payload(stack: Stack, api: PrefectClient) -> None:
    asked = request(1, text="quotes \" and ' and {{ braces }} and é")
    ask(stack, asked)
    (run,) = wait_until(lambda: retrained_by(api, asked), 30, "the automation to start a run")
    assert run["created_by"]["type"] == "AUTOMATION"
    assert run["parameters"]["spec"] == str(FLIGHTS)
    wait_until(lambda: retrained_by(api, asked)[0]["start_time"], 120, "the run to begin")
    assert stack_status(stack, {}, datetime.now(UTC)).failures == ()


def test_a_burst_of_a_hundred_requests_is_one_retraining_without_a_trail(stack: Stack, api: PrefectClient) -> None:
    asked = [request(week, text="burst") for week in range(100, 200)]
    wait_until(lambda: not api.events(DRIFT_DETECTED, now() - COOLDOWN), 30, "the automation's cooldown to pass")
    began = now()
    with pointed_at(stack.prefect.url), ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [request_event(one, began, str(FLIGHTS)) for one in asked]))
    wait_until(lambda: len(api.events(DRIFT_DETECTED, began)) == len(asked), 60, "all events to be kept")
    wait_until(lambda: [run["end_time"] for run in burst_runs(api) if run["end_time"]], 180, "the retraining to end")
    (run,) = burst_runs(api)
    assert run["parameters"]["event"]["event_id"] in {one.event_id for one in asked}
    assert not [run for run in runs(api, "retrain") if run["state"]["name"] in ("Cancelled", "Late", "Scheduled")]


def burst_runs(api: PrefectClient) -> list[dict[str, Any]]:
    """The retrainings of the burst, whatever their state."""
    return [run for run in runs(api, "retrain") if run["parameters"].get("event", {}).get("reason") == "burst"]


def test_the_worker_goes_on_when_the_prefect_server_comes_back(stack: Stack, api: PrefectClient) -> None:
    _kill(stack, PREFECT)
    with PortReservations() as others:
        assert others.find("127.0.0.1", stack.ports[PREFECT]) != stack.ports[PREFECT], "it is away, but its port is the stack's"
    wait_until(api.healthy, 120, "the server to answer again")
    wait_healthy(stack)
    asked = request(4)
    ask(stack, asked)
    wait_until(lambda: retrained_by(api, asked), 60, "an automation after the restart")
    # An earlier run that lost its server before it began holds the one slot for another minute.
    wait_until(lambda: retrained_by(api, asked)[0]["start_time"], 240, "the worker to start the run")


def test_a_killed_worker_is_replaced(stack: Stack, api: PrefectClient) -> None:
    died = _kill(stack, WORKER)
    wait_until(lambda: supervisord.states(stack.socket)[WORKER].pid not in (0, died), 60, "another worker")
    wait_until(lambda: api.online_workers(POOL, now() - timedelta(seconds=2)), 60, "its sign of life")


def test_the_store_keeps_its_entries_over_a_kill(stack: Stack) -> None:
    with connect(stack.store.url) as client:
        client.set("kept", "yes")
    _kill(stack, STORE)
    wait_healthy(stack)
    with connect(stack.store.url) as client:
        assert client.get("kept") == b"yes"


def prefect_objects(api: PrefectClient) -> list[set[str]]:
    """Ids of all deployments and automations: one set for all models."""
    return [
        {row["id"] for row in api.request("POST", f"/{kind}/filter", {"limit": 200})} for kind in ("deployments", "automations")
    ]


def test_a_directory_adds_models_to_the_service_and_nothing_to_prefect_and_one_is_removed(
    stack: Stack, stack_settings: Settings, spec_copy: Path, api: PrefectClient
) -> None:
    before, pids = prefect_objects(api), program_pids(stack)
    assert [len(ids) for ids in before] == [7, 4]
    (spec_copy.parent / "wrong.toml").write_text("name = 1")
    both, broken = stacks.up([spec_copy.parent], stack_settings, os.environ, now())
    assert [model.name for model in both.models] == ["flights", "other"]
    assert list(broken) == [str(spec_copy.parent / "wrong.toml")]
    assert both.service == stack.service
    wait_healthy(both)
    assert prefect_objects(api) == before
    assert program_pids(both) == pids
    assert httpx.get(f"{both.url_of('other')}/model", trust_env=False).json()["error"]["code"] == "no_model"
    with connect(stack.store.url) as store:
        wait_until(lambda: store.exists(lease_key("other")), 60, "the monitor to follow it")
    scheduled = f"/deployments/{api.deployment_id('retrain/fleet')}/schedules"
    api.request("POST", scheduled, [{"schedule": {"interval": 3_600}, "slug": name} for name in ("other", "another")])
    assert stacks.take_out("other", stack_settings, os.environ) == stack
    assert [one["slug"] for one in api.request("GET", scheduled)] == ["another"]
    assert api.delete_schedules("retrain", "fleet", slug="another") == 1
    assert again(stack_settings) == stack


def program_pids(stack: Stack) -> dict[str, int]:
    return {name: state.pid for name, state in supervisord.states(stack.socket).items()}


def test_commands_find_the_running_stack(stack: Stack, stack_settings: Settings) -> None:
    environment = stacks.environment_of(stack_settings, {})
    assert environment["PREFECT_API_URL"] == stack.prefect.url
    assert environment["REDIS_URL"] == stack.store.url


def test_down_leaves_no_process_and_up_again_ends_the_runs_it_had(
    stack: Stack, stack_settings: Settings, api: PrefectClient
) -> None:
    """The last test on the running stack: it is another one afterwards, on the same ports."""
    family = _supervisor(stack).children(recursive=True)
    running = {run.id for run in wait_until(lambda: api.pool_runs(POOL, STARTED), 120, "a run to be at work")}
    assert stacks.down(stack_settings)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert supervisord.program_processes(stack.state_dir, stack.socket) == []
    assert not stacks.down(stack_settings)
    renewed = again(stack_settings)
    assert (renewed.store, renewed.prefect) == (stack.store, stack.prefect)
    assert running.isdisjoint(run.id for run in api.pool_runs(POOL, STARTED))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """A home in which a stack comes up only partly."""
    settings = Settings(home=tmp_path / "own")
    yield settings
    stacks.down(settings)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_coming_up_ends_what_was_started(own: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from deployments.cli import main; main()", "up", str(FLIGHTS)]
    environ, log = {**os.environ, "PERENNIAL_HOME": str(own.home)}, tmp_path / "up.log"
    with log.open("w") as output:
        # A shell without job control has its background jobs ignore SIGINT, and children inherit that.
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output, preexec_fn=_heed_interrupts)
        wait_until(lambda: supervisord.find_supervisor(state_dir(own.home)) and log.read_text(), 30, "the supervisor to start")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert log.read_text().endswith("interrupted\n")
    assert supervisord.find_supervisor(state_dir(own.home)) is None
    assert stacks.stack_processes(own) == []


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `up` that gives up at its first component, when it has planned and launched everything."""
    monkeypatch.setattr(stacks, "READY_TIMEOUT", timedelta(0))


@pytest.mark.usefixtures("no_patience")
def test_a_component_that_is_not_ready_in_time_is_named_and_nothing_stays(own: Settings) -> None:
    with pytest.raises(StackError, match=r"(store|prefect) is not ready after 0 s"):
        again(own)
    assert supervisord.find_supervisor(state_dir(own.home)) is None


@pytest.mark.usefixtures("no_patience")
def test_what_a_killed_supervisor_left_is_ended_before_ports_are_planned(
    own: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StackError):
        again(own)
    stack = load_stack(own.home)
    assert stack is not None
    only_store = [program for program in programs.stack_programs(stack) if program.name == STORE]
    supervisord.write_config(stack.state_dir, stack.socket, only_store)
    supervisord.start(stack.state_dir, programs.environment(stack, os.environ))
    wait_until(lambda: store_is_up(stack.store.url), 30, "the store to answer")
    left = supervisord.states(stack.socket)[STORE].pid
    _supervisor(stack).kill()
    wait_until(lambda: supervisord.find_supervisor(stack.state_dir) is None, 30, "the supervisor to be gone")
    assert stacks.stack_processes(own) == [left]
    monkeypatch.setenv("PERENNIAL_HOME", str(own.home))
    assert run(["status"]) == 1
    assert "left 1 processes running" in capsys.readouterr().out
    assert run(["train", str(FLIGHTS)]) == 1
    assert "left 1 processes running" in capsys.readouterr().err
    with pytest.raises(StackError, match="is not ready after 0 s"):
        again(own)
    renewed = load_stack(own.home)
    assert renewed is not None
    assert (renewed.store, renewed.prefect, renewed.service) == (stack.store, stack.prefect, stack.service)
    assert stacks.stack_processes(own) == []


def test_down_works_beside_a_damaged_state_file(own: Settings) -> None:
    state_dir(own.home).mkdir(parents=True)
    (state_dir(own.home) / "stack.json").write_text("{")
    assert not stacks.down(own)


def test_an_external_store_or_api_that_does_not_answer_is_named_before_anything_starts(own: Settings) -> None:
    nobody = free_port()
    with pytest.raises(StoreUnreachable, match=f"the store at redis://127.0.0.1:{nobody}/0 .* set REDIS_URL"):
        again(own.model_copy(update={"redis_url": f"redis://127.0.0.1:{nobody}/0"}))
    with pytest.raises(PrefectUnreachable, match=r"http://127.0.0.1:9/api does not answer .* PREFECT_API_URL"):
        again(own.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"}))
    assert load_stack(own.home) is None


def test_a_spec_that_is_wrong_starts_nothing(own: Settings, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no spec at"):
        stacks.up([tmp_path / "nowhere.toml"], own, os.environ, now())
    assert load_stack(own.home) is None


def _supervisor(stack: Stack) -> psutil.Process:
    supervisor = supervisord.find_supervisor(stack.state_dir)
    assert supervisor is not None
    return supervisor


def _kill(stack: Stack, component: str) -> int:
    """SIGKILL a component's process and wait until the supervisor has noticed."""
    pid = supervisord.states(stack.socket)[component].pid
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: supervisord.states(stack.socket)[component].pid != pid, 30, f"the supervisor to notice that {component} is gone"
    )
    return pid
