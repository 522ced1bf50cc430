"""Check-ins: what a scheduled run tells Sentry, and that others tell nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import yaml

from flows.monitor import monitor
from flows.retrain import retrain
from tasks.check_ins import MONITOR_EVERY, begin_check_in, end_check_in
from tests.support.models import write_small
from tests.support.processes import ROOT
from tests.support.sentry_receiver import SentryReceiver

RUN = UUID("0b1c2d3e-0000-4000-8000-000000000001")


def flow_run(scheduled: bool = True, **parameters: object) -> Any:
    return SimpleNamespace(id=RUN, auto_scheduled=scheduled, parameters=parameters)


def ended(completed: bool) -> Any:
    return SimpleNamespace(is_completed=lambda: completed)


@pytest.fixture
def dsn(sentry: SentryReceiver, monkeypatch: pytest.MonkeyPatch) -> SentryReceiver:
    monkeypatch.setenv("SENTRY_DSN", sentry.dsn)
    return sentry


def told(sentry: SentryReceiver) -> list[dict[str, Any]]:
    return [payload for kind, payload in sentry.items if kind == "check_in"]


def test_a_monitor_run_tells_its_begin_and_its_end_as_one_run(dsn: SentryReceiver) -> None:
    begin_check_in(monitor, flow_run(specs=["small.toml"]), None)
    end_check_in(monitor, flow_run(specs=["small.toml"]), ended(True))
    end_check_in(monitor, flow_run(specs=["small.toml"]), ended(False))
    assert [(one["monitor_slug"], one["status"]) for one in told(dsn)] == [
        ("monitor", "in_progress"),
        ("monitor", "ok"),
        ("monitor", "error"),
    ]
    assert {one["check_in_id"] for one in told(dsn)} == {RUN.hex}
    assert told(dsn)[0]["monitor_config"]["schedule"] == {"type": "interval", "value": 5, "unit": "minute"}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("4w", {"type": "interval", "value": 4 * 7 * 24 * 60, "unit": "minute"}),
        ("0 4 * * 1", {"type": "crontab", "value": "0 4 * * 1"}),
    ],
)
def test_a_training_by_the_clock_has_the_schedule_of_its_spec(
    tmp_path: Path, dsn: SentryReceiver, schedule: str, expected: dict[str, Any]
) -> None:
    spec = write_small(tmp_path)
    spec.write_text(f'policy.schedule = "{schedule}"\n{spec.read_text()}')
    begin_check_in(retrain, flow_run(spec=str(spec), scheduled=True), None)
    (one,) = told(dsn)
    assert (one["monitor_slug"], one["monitor_config"]["schedule"]) == ("retrain-small", expected)


def test_runs_of_events_and_persons_and_specs_that_cannot_be_read_tell_nothing(
    dsn: SentryReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    begin_check_in(retrain, flow_run(scheduled=False, spec="small.toml"), None)
    assert not caplog.records
    begin_check_in(retrain, flow_run(spec="nowhere.toml"), None)
    assert "no check-in of retrain" in caplog.text
    assert told(dsn) == []


def test_without_a_dsn_nothing_is_told(sentry: SentryReceiver) -> None:
    begin_check_in(monitor, flow_run(specs=["small.toml"]), None)
    assert sentry.items == []


def test_the_schedule_is_that_of_the_deployment() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (schedule,) = next(one for one in deployments if "monitor" in one["entrypoint"])["schedules"]
    assert schedule["interval"] == MONITOR_EVERY.total_seconds()


@pytest.mark.parametrize("flow", [monitor, retrain], ids=lambda flow: flow.name)
def test_scheduled_flows_check_in_at_both_ends(flow: Any) -> None:
    assert begin_check_in in flow.on_running_hooks
    for hooks in (flow.on_completion_hooks, flow.on_failure_hooks, flow.on_crashed_hooks):
        assert hooks[-1] is end_check_in
