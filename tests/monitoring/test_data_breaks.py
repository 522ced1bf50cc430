"""Data breaks stop everything: the window alerts, and neither trains nor promotes, though the account would pay a promotion."""

from pathlib import Path

import polars as pl
import pytest

import monitoring.closing
from monitoring.closing import ClosedWindow, close_window
from monitoring.events import DATA_BROKEN, PROMOTION_DUE, ModelEvent
from monitoring.state import MonitorState
from perennial.registry import Registry
from tests.monitoring.test_shadowing import new, old, session, turned, week
from tests.support.models import publish_small, small_spec

THIRD = pl.int_range(pl.len()) % 3 == 0
BREAKS = {
    "nulls": {"amount": pl.when(THIRD).then("amount")},
    "a unit": {"amount": pl.col("amount") * 1_000},
    "categories": {"shop": pl.when(THIRD).then("shop").otherwise(pl.lit("NORTH"))},
}


def close(
    tmp_path: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, unreadable: float = 0.0
) -> tuple[ClosedWindow, list[str]]:
    """Close the fourth week after the turn, which a challenger that was trained since foresaw, and the champion did not."""
    registry, sent = Registry(str(tmp_path / "registry")), list[ModelEvent]()
    publish_small(registry, old())
    publish_small(registry, new(), promote=False)
    monkeypatch.setattr(monitoring.closing, "send", sent.append)
    watched = session(tmp_path, registry, rows)
    closed = close_window(week(3), watched.judge(week(3)), small_spec(), MonitorState(), unreadable, week(4).end)
    return closed, [event.name for event in sent]


def test_the_same_window_promotes_while_its_data_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, sent = close(tmp_path, turned(2, start=3), monkeypatch)
    assert sent == [PROMOTION_DUE]
    assert closed.account is not None
    assert len(closed.account.challengers) == 1
    assert closed.result.diagnosis is not None
    assert closed.result.diagnosis.kind != "broken data"


@pytest.mark.parametrize("what", BREAKS)
def test_a_break_alerts_and_neither_trains_nor_promotes(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, sent = close(tmp_path, turned(2, start=3).with_columns(**BREAKS[what]), monkeypatch)
    assert sent == [DATA_BROKEN]
    assert closed.result.decision.flow is None
    assert closed.account is not None
    assert not closed.account.challengers
    assert closed.result.diagnosis is not None
    assert (closed.result.diagnosis.kind, closed.result.diagnosis.features) == ("broken data", tuple(BREAKS[what]))


def test_a_stream_that_cannot_be_read_is_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, sent = close(tmp_path, turned(2, start=3), monkeypatch, unreadable=0.5)
    assert sent == [DATA_BROKEN]
    assert closed.account is not None
    assert not closed.account.challengers
