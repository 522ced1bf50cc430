"""What a person sees while the stack comes up, and what each component says of itself."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from rich.console import Console

from deployments.prefect_client import FlowRun
from deployments.stack import status
from deployments.stack.state import Address, HostedModel, Stack
from deployments.stack.status import (
    ComponentStatus,
    StackProgress,
    StackStatus,
    ask_service,
    dead_letter_notes,
    monitor_state,
    newest_decision,
)
from monitoring.dead_letters import put_aside
from monitoring.diagnosis import Diagnosis
from monitoring.lease import lease_key
from monitoring.state import save_result
from monitoring.trouble import Trouble, write_trouble
from monitoring.window import Window
from tests.deployments.replay.test_driver import WEEK, a_result
from tests.support.http_server import QuietHandler, http_server
from tests.tasks.reporting.test_artifacts import an_account

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_component_and_its_last_state_are_shown(terminal: bool) -> None:
    shown = io.StringIO()
    with StackProgress(Console(file=shown, force_terminal=terminal, width=100)) as progress:
        progress("store", "starting")
        progress("store", "ready")
        progress("prefect", "starting")
    last = {part: [line for line in shown.getvalue().splitlines() if part in line][-1] for part in ("store", "prefect")}
    assert "ready" in last["store"]
    assert "starting" in last["prefect"]


REFUSED = {"error": {"code": "no_model", "message": "version 3 of 'toy' is champion, and it is refused: model.txt is broken"}}
FRESH = {"error": {"code": "no_model", "message": "no version of 'toy' has been promoted yet: train one, it is served at once"}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, None, (None, "")),
        (200, {"ready": ["a"], "not_ready": {"b": FRESH["error"]["message"], "c": "refused"}}, (None, "c: refused")),
        (503, FRESH, ("no model yet", "")),
        (503, REFUSED, ("not ready", REFUSED["error"]["message"])),
        (502, None, ("not ready", "")),
    ],
)
def test_a_service_says_itself_whether_it_predicts(status: int, body: object, expected: tuple[str | None, str]) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the base class's name
            assert self.path == "/ready"
            self.send_response(status)
            if body:
                self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode() if body else b"")

    with http_server(Handler) as url:
        assert ask_service(url) == expected


def test_a_service_that_is_away_does_not_answer() -> None:
    assert ask_service("http://127.0.0.1:9") == ("does not answer", "")


def test_the_newest_window_is_told_with_its_account(tmp_path: Path) -> None:
    assert newest_decision(tmp_path) == []
    for number, account in enumerate((None, an_account())):
        result = a_result(reason="within bounds")
        window = Window(start=result.window.start + number * WEEK, end=result.window.end + number * WEEK)
        findings = result.findings.model_copy(update={"window": window})
        save_result(tmp_path, result.model_copy(update={"findings": findings, "account": account}))
    assert newest_decision(tmp_path) == [
        "flights, 2013-03-11 00:00 to 2013-03-18 00:00: none: within bounds",
        "  version 3 lost 0.6, challenger 4 0.48 on 160 rows (+25.0% ± 2.0%)",
        "  promised -30.0% of the loss, turned out -25.0% beside version 2",
    ]
    kind = Diagnosis(kind="noise", reason="nothing is over its bound")
    save_result(tmp_path, result.model_copy(update={"findings": findings, "account": account, "diagnosis": kind}))
    assert newest_decision(tmp_path)[1] == "  diagnosis: noise: nothing is over its bound"
    (tmp_path / "windows" / "20130311T000000.json").write_text("{")
    assert "cannot be read" in newest_decision(tmp_path)[0]


def a_stack(tmp_path: Path, url: str, *names: str) -> Stack:
    """A stack of these models whose store is at `url`."""
    models = tuple(HostedModel(name=name, spec=tmp_path / f"{name}.toml") for name in names)
    places = {"home": tmp_path, "directory": tmp_path, "socket": tmp_path / "s"}
    return Stack(**places, started_at=NOW, store=Address(url=url), prefect=Address(url="http://127.0.0.1:9/api"), models=models)


def a_run(state: str, created: datetime = NOW - timedelta(hours=1)) -> FlowRun:
    at = {"created": created, "expected_start": created, "started": created, "ended": None}
    return FlowRun(id="1", name="keen-lynx", deployment_id=None, state=state, message="it broke", auto_scheduled=True, **at)


@pytest.mark.parametrize("state", ["FAILED", "CRASHED"])
def test_a_monitor_whose_newest_run_failed_is_named_with_the_reason(tmp_path: Path, store_url: str, state: str) -> None:
    assert monitor_state(a_run(state), a_stack(tmp_path, store_url), NOW) == ("failed", "keen-lynx: it broke")


def test_a_monitor_that_holds_no_lease_of_a_model_does_not_follow_it(
    tmp_path: Path, store: redis.Redis, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a run that Prefect believes running while its process stands still."""
    monkeypatch.setattr(status, "HANDOVER", timedelta())
    stack = a_stack(tmp_path, store_url, "small", "large")
    store.set(lease_key("small"), "token")
    said = "no run follows large; its newest run, keen-lynx, is running: see its log in the Prefect UI"
    assert monitor_state(a_run("RUNNING"), stack, NOW) == ("does not follow", said)
    assert monitor_state(None, stack, NOW)[1].startswith("no run follows large; it has had no run")
    assert monitor_state(a_run("SCHEDULED", created=NOW), stack, NOW) == ("running", "")  # it is just starting
    write_trouble(tmp_path / "large", Trouble(since=NOW, reason="its archive is damaged"))  # which has a line of its own
    assert monitor_state(a_run("RUNNING"), stack, NOW) == ("running", "")


def test_what_is_wrong_with_one_model_makes_the_stack_unwell_and_an_old_failure_of_an_automation_does_not() -> None:
    part = ComponentStatus("service", "", "running")
    assert StackStatus((part,), (), notes=("an automation failed",)).healthy
    assert not StackStatus((part,), ("service: large: refused",)).healthy


def test_entries_put_aside_are_counted_with_the_command_that_lists_them(
    tmp_path: Path, store: redis.Redis, store_url: str
) -> None:
    put_aside(store, "small", "perennial:small:labels", b"1-1", {b"b": b"x"}, "garbage")
    expected = ["small: 1 entries put aside: `perennial dead-letters small`"]
    assert dead_letter_notes(a_stack(tmp_path, store_url, "small", "large")) == expected
