"""The history of a model is what happened, in order, with reasons."""

from pathlib import Path

import pytest

from monitoring.history import HistoryEntry, model_history, promises
from monitoring.state import load_results
from perennial.registry import Registry
from tests.support.lived import DECLINED, FIRST, WEEK, live


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[HistoryEntry, ...]:
    settings = live(tmp_path_factory.mktemp("lived"))
    return model_history(settings.model_home("small"), Registry(settings.registry_url), "small")


def test_everything_that_happened_is_in_its_order(history: tuple[HistoryEntry, ...]) -> None:
    assert [(one.kind, one.version, one.decision) for one in history] == [
        ("training", 1, ""),
        ("promotion", 1, ""),
        ("window", 1, "drift"),
        ("training", 2, ""),
        ("refusal", 2, ""),
        ("window", 1, "promotion"),
        ("declined", None, ""),
        ("training", 3, ""),
        ("promotion", 3, ""),
        ("window", 3, "none"),
    ]


def test_each_entry_has_its_reason_and_what_it_answers(history: tuple[HistoryEntry, ...]) -> None:
    window, training = history[2], history[3]
    assert window.window is not None
    assert (window.window.start, window.window.end) == (FIRST, FIRST + WEEK)
    assert training.event_id == window.event_id is not None
    assert training.reason == "learnt 1,168 rows until 2024-02-18 23:00, because: drift: as the window asked"
    assert history[4].reason == "log_loss worse: refused"
    assert history[6].reason == DECLINED
    assert history[8].reason == "log_loss 0.45 against the champion's 0.5 (was version 1)"


def test_a_promotion_is_held_to_its_promise(tmp_path: Path) -> None:
    settings = live(tmp_path)
    found = promises(Registry(settings.registry_url).history("small"), load_results(settings.model_home("small")))
    assert [(one.version, one.promised, one.turned_out) for one in found] == [(1, None, None), (3, -0.1, -0.05)]


def test_a_model_that_never_lived_has_no_history(tmp_path: Path) -> None:
    assert model_history(tmp_path / "small", Registry(str(tmp_path / "registry")), "small") == ()
