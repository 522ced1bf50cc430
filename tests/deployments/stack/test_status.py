"""What a person sees while the stack comes up, and what each component says of itself."""

import io
import json

import pytest
from rich.console import Console

from deployments.stack.status import StackProgress, ask_service
from tests.support.http_server import QuietHandler, http_server


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
