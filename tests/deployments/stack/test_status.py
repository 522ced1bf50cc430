"""What a person sees while the stack comes up."""

import io

import pytest
from rich.console import Console

from deployments.stack.status import StackProgress


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
