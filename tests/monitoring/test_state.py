"""What the monitor remembers survives as it was; a broken file is named."""

from pathlib import Path

import pytest

from monitoring.policy import Asked
from monitoring.state import MonitorState, load_state, save_state
from perennial.errors import ArchiveError
from tests.support.models import START


def test_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path) == MonitorState()
    state = MonitorState(closed_until=START, asked=Asked(at=START, version=2, cause="drift"))
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, MonitorState())
    (tmp_path / "monitor" / "state.json").write_text("{")
    with pytest.raises(ArchiveError, match=r"state\.json cannot be read"):
        load_state(tmp_path)


def test_a_state_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "monitor").write_text("a file where a folder should be")
    with pytest.raises(ArchiveError, match=r"state\.json cannot be written"):
        save_state(tmp_path, MonitorState())
