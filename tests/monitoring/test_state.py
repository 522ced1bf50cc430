"""What the monitor remembers survives as it was; a broken file is named."""

from pathlib import Path

import pytest

from monitoring.state import EarlierRequest, MonitorState, load_results, load_state, save_state
from perennial.errors import ArchiveError, NewerFormat
from tests.monitoring.requests import request_for
from tests.support.models import START


def test_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path) == MonitorState()
    earlier = EarlierRequest(request=request_for("small"), sent_at=START, last_sent_at=START)
    state = MonitorState(closed_until=START, last_request=earlier)
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


@pytest.mark.parametrize("content", ["{", "null", '{"format": 1, "rows": 5}'])
def test_a_broken_window_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows" / "20240101T000000.json").write_text(content)
    with pytest.raises(ArchiveError, match=r"20240101T000000\.json cannot be read"):
        load_results(tmp_path)


def test_a_window_result_of_a_newer_release_is_named(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows" / "20240101T000000.json").write_text('{"format": 2}')
    with pytest.raises(NewerFormat, match=r"20240101T000000\.json was written by a newer release"):
        load_results(tmp_path)
