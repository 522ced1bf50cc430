"""What was decided comes through, whatever is lost: sent under another id, run directly, buried and repeated, or settled."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from monitoring.events import clock_event_id, send
from monitoring.ledger import Ledger, LedgerEntry, LedgerStep, Outcome, advance, read_entry, record_outcome, start, write_decision
from monitoring.policy import RetrainRequest
from monitoring.prefect_api import FLEET, PrefectApi
from monitoring.reconciler import BUDGET, FIRST_WAIT, Reconciler, waiting_time
from monitoring.settling import find_outcome
from monitoring.training_lease import training_lease
from perennial.registry import CHAMPION, REJECTED, REQUEST, TRAINING, Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec
from tests.monitoring.requests import request_for
from tests.monitoring.running import NOWHERE, payloads_of
from tests.monitoring.test_events import events_of
from tests.support.models import START, publish_small, small_model, small_spec
from tests.support.prefect_server import pointed_at
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until

DAY, MINUTE, LEASE = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=30)
SPEC_PATH = "specs/small.toml"


class Scene:
    """A model's home and registry with one decision, sent at `at`, and a reconciler that is asked at any time.

    Where a Prefect server looks on it is yesterday: events of long ago are not in its feed.
    """

    def __init__(self, directory: Path, api: str = NOWHERE, request: RetrainRequest | None = None) -> None:
        self.home, self.api = directory / "small", api
        self.at = START if api == NOWHERE else datetime.now(UTC) - DAY
        self.registry = Registry(str(directory / "registry"))
        publish_small(self.registry, small_model())
        self.request = request or request_for("small").model_copy(update={"version": 1, "event_id": str(uuid4())})
        write_decision(self.home, self.request, self.at)
        self.step("sent", self.at)
        self.reconciler = self.another()

    def another(self, spec: ModelSpec | None = None) -> Reconciler:
        """The reconciler of a monitor that has just been started."""
        client = lambda patience: PrefectApi(self.api, {}, patience=patience)  # noqa: E731
        return Reconciler(self.home, self.registry, spec or small_spec(), Ledger(self.home), LEASE, SPEC_PATH, client)

    def step(self, stage: Any, at: datetime, flow_run: str | None = None) -> None:
        assert advance(self.home, self.request.event_id, LedgerStep(stage=stage, at=at, flow_run=flow_run))

    def reconcile(self, after: timedelta, champion: int = 1) -> LedgerEntry:
        """What the decision is when a monitor has looked so long after it was sent."""
        now = self.at + after
        self.reconciler.reconcile(self.reconciler.due(START + timedelta(days=900), now), champion, now)
        return self.entry

    @property
    def entry(self) -> LedgerEntry:
        found = read_entry(self.home, self.request.event_id)
        assert found is not None
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_waits_double_from_one_minute_to_ten() -> None:
    assert FIRST_WAIT == MINUTE
    assert [waiting_time(sent) / MINUTE for sent in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_nothing_is_due_before_its_time(scene: Scene) -> None:
    closed, event_id = START + timedelta(days=900), scene.request.event_id
    assert scene.reconciler.due(closed, START + MINUTE - timedelta(seconds=1)) == []
    assert [one.event_id for one in scene.reconciler.due(closed, START + MINUTE)] == [event_id]
    start(scene.home, event_id, START, "run-1")
    assert scene.reconciler.due(closed, START + LEASE - timedelta(seconds=1)) == [], "it is at work"
    assert scene.reconciler.due(closed, START + LEASE), "it has given no sign of life"
    record_outcome(scene.home, event_id, "held", START, "run-1")
    assert scene.reconciler.due(closed, START + timedelta(days=9)) == []


def test_what_was_decided_about_an_open_window_is_left_to_the_close(tmp_path: Path) -> None:
    request = request_for("small").model_copy(update={"version": 1})
    publish_small(Registry(str(tmp_path / "registry")), small_model())
    write_decision(tmp_path / "small", request, START)
    opened = Reconciler(tmp_path / "small", Registry(str(tmp_path / "registry")), small_spec(), Ledger(tmp_path / "small"), LEASE)
    late = START + timedelta(days=9)
    assert opened.due(None, late) == opened.due(request.window_start, late) == []
    assert opened.due(request.window_end, late)


def test_a_run_that_is_at_work_is_left_alone_however_long_it_takes(scene: Scene) -> None:
    with training_lease(scene.registry, scene.home, "small", "run-1", LEASE):
        start(scene.home, scene.request.event_id, START, "run-1")
        assert scene.reconciler.due(START + timedelta(days=900), datetime.now(UTC)) == []


@pytest.mark.parametrize(("alias", "outcome"), [(CHAMPION, "promoted"), (REJECTED, "rejected")])
def test_a_verdict_that_no_run_lived_to_write_down_is_the_outcome(scene: Scene, alias: str, outcome: Outcome) -> None:
    """Fault F16: killed after the move and before the receipt."""
    registry, event_id = scene.registry, scene.request.event_id
    version = publish_small(registry, small_model(seed=3), promote=False)
    start(scene.home, event_id, START, "run-1")
    expect, evidence = registry.aliases("small").positions.get(alias), {REQUEST: event_id}
    registry.promote("small", alias, version, expect=expect, reason="better", now=START + MINUTE, evidence=evidence)
    scene.api = NOWHERE
    scene.step("died", START + MINUTE, "run-1")
    found = scene.reconcile(2 * MINUTE, champion=version if alias == CHAMPION else 1)
    assert (found.outcome, found.steps[-1].reason) == (outcome, f"version 2 was {outcome} for this event already")


def test_a_request_about_a_version_that_serves_no_more_is_declined(scene: Scene) -> None:
    found = scene.reconcile(MINUTE, champion=2)
    assert (found.outcome, found.steps[-1].reason) == ("declined", "the event is about version 1, and version 2 serves by now")


def test_after_three_dead_runs_it_has_failed(scene: Scene) -> None:
    for number in range(BUDGET):
        start(scene.home, scene.request.event_id, START, f"run-{number}")
        scene.step("died", START + MINUTE, f"run-{number}")
    found = scene.reconcile(2 * MINUTE)
    assert (found.outcome, found.steps[-1].reason) == ("failed", "3 runs died over it")


def test_without_prefect_it_waits_and_nothing_is_written(scene: Scene) -> None:
    assert scene.reconcile(MINUTE).count("sent") == 1
    closed = START + timedelta(days=900)
    assert not scene.reconciler.due(closed, START + MINUTE), "not in every turn"
    assert scene.reconciler.due(closed, START + 2 * MINUTE)


def test_a_damaged_version_does_not_keep_the_registry_from_telling(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path))
    for seed in (1, 2):
        publish_small(registry, small_model(seed=seed))
    (tmp_path / "models" / "small" / "versions" / "2" / "model.json").write_text("{")
    request = request_for("small").model_copy(update={"version": 1})
    assert find_outcome(registry, request, challengers_suffice=True) is None


def test_a_lost_event_is_sent_again_under_another_id_and_then_run_directly_once(tmp_path: Path, prefect_api: str) -> None:
    """Faults F3 and F12: a living server ignores an id that it has seen."""
    scene, event_id = Scene(tmp_path, prefect_api), ""
    first = request_id = scene.request.event_id
    deployment = deploy(prefect_api, "retrain")
    with pointed_at(prefect_api):
        assert scene.reconcile(MINUTE).count("sent") == 2
    again = wait_until(lambda: payloads_of(prefect_api, request_id), 30, "the event to come again")
    ((event_id, payload),) = again
    assert event_id != first
    assert payload["event_id"] == request_id
    assert scene.reconcile(2 * MINUTE).count("sent") == 2, "its time is not over"
    found = scene.reconcile(3 * MINUTE)
    assert found.count("sent") == 3
    (only,) = runs_of(prefect_api, deployment)
    assert (only["id"], only["parameters"]["event"]["event_id"]) == (found.steps[-1].flow_run, request_id)
    assert only["parameters"]["spec"] == SPEC_PATH
    assert scene.reconcile(timedelta(hours=1)).count("sent") == 3, "it waits in line for a worker"
    assert len(runs_of(prefect_api, deployment)) == 1


def test_a_monitor_killed_after_it_ran_the_deployment_does_not_run_it_twice(tmp_path: Path, prefect_api: str) -> None:
    scene, deployment = Scene(tmp_path, prefect_api), deploy(prefect_api, "retrain")
    scene.step("sent", scene.at)
    with PrefectApi(prefect_api, {}) as api:
        scene.another()._send_again(scene.entry, scene.request, api, scene.at)  # and killed before it wrote it down
        (first,) = runs_of(prefect_api, deployment)
        api.end_run(first["id"], "CRASHED", "killed")
    assert scene.reconcile(timedelta(hours=1)).flow_run == first["id"]
    assert len(runs_of(prefect_api, deployment)) == 1
    assert scene.reconcile(timedelta(hours=3)).flow_run != first["id"], "the next one has a key of its own"


def test_a_dead_run_is_buried_and_holds_no_slot(tmp_path: Path, prefect_api: str) -> None:
    """Fault F11: worker and retraining killed together, so that nobody reports the run."""
    scene, deployment = Scene(tmp_path, prefect_api), deploy(prefect_api, "retrain", limit=1)
    with PrefectApi(prefect_api, {}) as api:
        dead, waits = (api.start_run(deployment) for _ in range(2))
        assert [set_state(prefect_api, dead, state) for state in ("PENDING", "RUNNING")] == ["ACCEPT", "ACCEPT"]
        assert set_state(prefect_api, waits, "PENDING") != "ACCEPT"
        token = scene.registry.claim("small", dead, expect=0, reason="it trains", now=scene.at)
        start(scene.home, scene.request.event_id, scene.at, dead)
        found = scene.reconcile(MINUTE)
        assert [step.stage for step in found.steps[-2:]] == ["died", "sent"]
        assert api.run(dead).state == "CRASHED"
        assert set_state(prefect_api, waits, "PENDING") == "ACCEPT"
    assert scene.registry.aliases("small").token == token + 1
    move = scene.registry.last_move("small", TRAINING)
    assert move is not None
    assert move.reason == f"run {dead} gave no sign of life for 30 s"


def test_a_run_that_no_process_works_on_is_ended_and_the_request_is_sent_again(tmp_path: Path, prefect_api: str) -> None:
    scene, deployment = Scene(tmp_path, prefect_api), deploy(prefect_api, "retrain")
    with PrefectApi(prefect_api, {}) as api:
        stuck = api.start_run(deployment, {"event": scene.request.model_dump(mode="json")})
        set_state(prefect_api, stuck, "PENDING")
        assert scene.reconcile(DAY).count("sent") == 1, "it may be about to start"
        assert scene.reconcile(DAY + 3 * MINUTE).count("sent") == 2
        assert api.run(stuck).state == "CRASHED"


def test_an_automation_whose_action_failed_is_reported_once_and_made_good(
    tmp_path: Path, prefect_api: str, sentry: SentryReceiver
) -> None:
    from perennial.error_reporting import init_error_reporting

    init_error_reporting(Settings(sentry_dsn=sentry.dsn), "flow")
    scene = Scene(tmp_path, prefect_api)
    fail_action(prefect_api, "perennial.retrain", scene.request.event_id)
    fail_action(prefect_api, "somebody-elses", scene.request.event_id)
    assert scene.reconcile(DAY).count("sent") == 2
    (event,) = sentry.wait_for(1)
    (error,) = event["exception"]["values"]
    assert error["type"] == "AutomationFailed"
    assert "perennial.retrain" in error["value"]
    assert "the database is locked" in error["value"]
    scene.reconcile(DAY + timedelta(hours=2))
    assert len(sentry.events()) == 1


def deploy(api: str, flow: str, limit: int | None = None) -> str:
    """A deployment `flow/fleet` that no worker serves, as it was before none; its id."""
    known = httpx.get(f"{api}/deployments/name/{flow}/{FLEET}", timeout=10)
    if known.is_success:
        httpx.delete(f"{api}/deployments/{known.json()['id']}", timeout=10).raise_for_status()
    flow_id = httpx.post(f"{api}/flows/", json={"name": flow}, timeout=10).raise_for_status().json()["id"]
    body: dict[str, Any] = {"name": FLEET, "flow_id": flow_id}
    body |= {"concurrency_limit": limit, "concurrency_options": {"collision_strategy": "ENQUEUE"}} if limit else {}
    found: str = httpx.post(f"{api}/deployments/", json=body, timeout=10).raise_for_status().json()["id"]
    return found


def runs_of(api: str, deployment: str) -> list[dict[str, Any]]:
    query = {"deployments": {"id": {"any_": [deployment]}}}
    found: list[dict[str, Any]] = httpx.post(f"{api}/flow_runs/filter", json=query, timeout=10).raise_for_status().json()
    return found


def set_state(api: str, run_id: str, state: str) -> str:
    """What Prefect says to a run that wants into a state, as a worker or an engine asks for it."""
    answer = httpx.post(f"{api}/flow_runs/{run_id}/set_state", json={"state": {"type": state}}, timeout=10)
    status: str = answer.raise_for_status().json()["status"]
    return status


def fail_action(api: str, automation: str, event_id: str) -> None:
    """What a Prefect server tells when an automation's action fails, and nothing else."""
    event = {
        "id": str(uuid4()),
        "event": "prefect.automation.action.failed",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.automation.{event_id}", "prefect.resource.name": automation},
        "payload": {"action_type": "run-deployment", "reason": "the database is locked"},
    }
    httpx.post(f"{api}/events", json=[event], timeout=10).raise_for_status()
    query = {"filter": {"event": {"name": [event["event"]]}}, "limit": 50}

    def stored() -> bool:
        found = httpx.post(f"{api}/events/filter", json=query, timeout=10).raise_for_status().json()["events"]
        return any(one["id"] == event["id"] for one in found)

    wait_until(stored, 30, "the failed action to be in the feed")


def test_an_event_sent_again_is_about_the_same_request(prefect_api: str) -> None:
    from monitoring.events import request_event

    request = request_for("again")
    events = [request_event(request, datetime.now(UTC), again=number) for number in range(3)]
    assert len({event.id for event in events}) == 3
    assert events[0].id == request.event_id
    assert all(event.payload == events[0].payload for event in events)
    assert request_event(request, START, again=2).id == events[2].id, "whoever sends it for the third time"
    for event in events:
        send(event)
    wait_until(lambda: len(events_of(prefect_api, "again")) == 3, 30, "three events, for none has been seen")


def test_a_training_by_the_clock_whose_run_died_is_run_again_for_its_moment(tmp_path: Path, prefect_api: str) -> None:
    """Until too many have died; what it has published is its outcome."""
    scene = Scene(tmp_path, prefect_api)
    record_outcome(scene.home, scene.request.event_id, "declined", scene.at)
    event_id = clock_event_id("small", scene.at)
    deploy(prefect_api, "retrain")
    with PrefectApi(prefect_api, {}) as api:
        start(scene.home, event_id, scene.at, str(uuid4()), planned=scene.at)
        due = scene.reconciler.due(None, scene.at + LEASE)
        assert [one.event_id for one in due] == [event_id]
        assert scene.reconciler.reconcile(due, 1, scene.at + LEASE) == 1
        found = read_entry(scene.home, event_id)
        assert found is not None
        assert [step.stage for step in found.steps] == ["started", "died", "sent"]
        run = api.request("GET", f"/flow_runs/{found.flow_run}")
        assert run["parameters"] == {"spec": SPEC_PATH, "scheduled": scene.at.isoformat()}
    assert scene.reconciler.due(None, scene.at + 9 * DAY) == [], "it waits in Prefect's database"
