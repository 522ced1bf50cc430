"""The session's watermark: which windows fall due is decided by several rows, never by one of a wrong clock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring.consumer import Batch, Entry
from monitoring.session import MonitorSession
from monitoring.state import MonitorState, save_state
from perennial.log_columns import EVENT_TIME
from perennial.record import PredictionBatch
from perennial.registry import Registry
from perennial.spec import ModelSpec, WindowSpec
from service.prediction_log.streams import predictions_stream
from tests.monitoring.streams import add_predictions, predicted
from tests.support.models import small_frame, small_model, small_spec

MODEL = small_model()
NOW = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly() -> ModelSpec:
    window = WindowSpec(length=HOUR, lateness=timedelta(minutes=10), min_rows=1, label_share=0.5)
    return small_spec().model_copy(update={"window": window})


def rows(*times: datetime, name: str = "row") -> PredictionBatch:
    batch = predicted(MODEL, small_frame(rows=len(times), seed=2), served_at=NOW)
    ids = tuple(f"{name}-{number}" for number in range(len(times)))
    return PredictionBatch(batch.model, 1, NOW, ids, times, batch.columns, batch.scores)


def session(home: Path) -> MonitorSession:
    return MonitorSession(hourly(), home, MODEL, NOW, Registry(str(home / "registry")), Path())


def archived(watched: MonitorSession, batch: PredictionBatch) -> MonitorSession:
    add_predictions(watched.archive, [batch])
    watched.advance(Batch(predictions=(Entry(predictions_stream("small"), b"1-1", b"", batch),)), NOW)
    return watched


def lived(home: Path) -> MonitorSession:
    """A session at five past twelve: rows each ten minutes since ten, the windows until eleven closed."""
    save_state(home, MonitorState(closed_until=NOW.replace(hour=11, minute=0)))
    return archived(session(home), rows(*(NOW - minutes * timedelta(minutes=10) for minutes in range(12, -1, -1))))


@pytest.mark.parametrize("ahead", [timedelta(hours=23, minutes=59), timedelta(minutes=20), timedelta(days=400)])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_rows_of_tomorrow_close_no_window_of_today(tmp_path: Path, ahead: timedelta, count: int) -> None:
    """Fault F8: 23 windows fell due by one row of almost a day ahead."""
    watched = lived(tmp_path)
    assert watched.due() == []
    archived(watched, rows(*(NOW + ahead + number * timedelta(seconds=1) for number in range(count)), name="wrong"))
    assert watched.due() == []
    assert session(tmp_path).due() == [], "nor when the monitor begins anew and reads the log"


def test_one_row_of_today_closes_no_window_of_a_replay_of_the_past(tmp_path: Path) -> None:
    past = datetime(2024, 1, 1, tzinfo=UTC)
    watched = archived(session(tmp_path), rows(*(past + number * timedelta(minutes=10) for number in range(12))))
    before = watched.due()
    assert [window.end for window in before] == [past + HOUR]
    archived(watched, rows(NOW, NOW - HOUR, name="without a time"))
    assert watched.due() == session(tmp_path).due() == before


def test_the_same_rows_again_corroborate_nothing(tmp_path: Path) -> None:
    past = datetime(2024, 1, 1, tzinfo=UTC)
    watched = archived(session(tmp_path), rows(*(past + number * timedelta(minutes=10) for number in range(12))))
    before = watched.due()
    for _ in range(3):
        watched = archived(session(tmp_path), rows(NOW, name="wrong"))
    assert watched.due() == before


def test_three_rows_that_agree_close_what_is_over(tmp_path: Path) -> None:
    watched = lived(tmp_path)
    archived(watched, rows(NOW + timedelta(minutes=5), NOW + timedelta(minutes=5), name="on time"))
    assert watched.due() == []
    archived(watched, rows(NOW + timedelta(minutes=5), name="one more"))
    assert [window.end.hour for window in watched.due()] == [12]
    assert session(tmp_path).due() == watched.due()


def test_windows_before_1970_and_across_it_fall_due(tmp_path: Path) -> None:
    turn = datetime(1970, 1, 1, tzinfo=UTC)
    times = [turn + minutes * timedelta(minutes=10) for minutes in range(-18, 19)]
    watched = archived(session(tmp_path), rows(*times))
    due = [window.start for window in watched.due()]
    assert due == [turn + hour * HOUR for hour in range(-3, 2)]
    assert [window.start for window in session(tmp_path).due()] == due, "a monitor that begins anew reads the log"
    assert watched.archive.scan(turn - HOUR, turn).collect()[EVENT_TIME].sort().to_list() == times[12:18]
    assert [day.isoformat() for day in watched.archive.dates()] == ["1969-12-31", "1970-01-01"]


def test_rows_of_a_misread_time_move_nothing(tmp_path: Path) -> None:
    watched = archived(session(tmp_path), rows(*(datetime(19, 1, 1, hour, tzinfo=UTC) for hour in range(12))))
    assert watched.due() == session(tmp_path).due() == []
