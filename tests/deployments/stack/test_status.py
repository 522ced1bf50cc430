"""What a person sees while the stack comes up, and what each component says of itself."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from deployments.stack.status import StackProgress, ask_service, newest_decision
from monitoring.diagnosis import Diagnosis
from monitoring.state import save_result
from monitoring.window import Window
from tests.deployments.replay.test_driver import WEEK, a_result
from tests.support.http_server import QuietHandler, http_server
from tests.tasks.reporting.test_artifacts import an_account


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
