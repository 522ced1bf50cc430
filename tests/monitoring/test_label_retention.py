"""Labels of ids that were never asked: they wait for their prediction for a while, and are then dropped and counted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.labels import label_report
from monitoring.archive import Archive
from monitoring.label_retention import drop_unmatched, read_dropped
from perennial.record import LabelBatch
from perennial.settings import Settings
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import small_frame, small_model, write_small

MODEL, FRAME = small_model(), small_frame(rows=48, seed=1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEEP = timedelta(days=90)
OLD, YOUNG = NOW - KEEP - timedelta(days=1), NOW - KEEP + timedelta(days=1)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Predictions with labels of long ago; beside them labels of strangers, old and young."""
    archive = Archive(tmp_path / "var" / "small", "binary", MODEL.card.schema_)
    add_predictions(archive, [predicted(MODEL, FRAME)])
    add_labels(archive, [told(MODEL, FRAME, OLD), strangers(5, OLD), strangers(7, OLD - timedelta(days=3)), strangers(11, YOUNG)])
    return archive


def strangers(count: int, received: datetime) -> LabelBatch:
    """Labels of ids that nobody asked about."""
    ids = tuple(f"stranger-{received:%m%d}-{number}" for number in range(count))
    return replace(told(MODEL, FRAME.head(count), received), ids=ids)


def kept(archive: Archive) -> int:
    return archive.labels().collect().height


def test_only_old_labels_without_a_prediction_are_dropped_and_counted(archive: Archive, tmp_path: Path) -> None:
    assert drop_unmatched(archive, KEEP, NOW) == 5 + 7
    assert kept(archive) == FRAME.height + 11
    assert archive.counts().joined == FRAME.height
    assert read_dropped(archive.home).dropped == 12
    spec = write_small(tmp_path)
    assert any(
        line.startswith("12 labels dropped") for line in label_report(spec, Settings(home=tmp_path / "var"), unmatched=False)
    )


def test_a_day_is_looked_at_once_and_the_next_one_when_it_is_old(archive: Archive) -> None:
    drop_unmatched(archive, KEEP, NOW)
    assert drop_unmatched(archive, KEEP, NOW + timedelta(hours=1)) == 0
    assert drop_unmatched(archive, KEEP, NOW + timedelta(days=3)) == 11
    assert read_dropped(archive.home).dropped == 23
    assert kept(archive) == FRAME.height


def test_labels_are_written_to_a_day_that_was_cleared(archive: Archive) -> None:
    drop_unmatched(archive, KEEP, NOW)
    assert add_labels(archive, [strangers(5, OLD), strangers(7, OLD - timedelta(days=3))]) == 12
    assert add_labels(archive, [told(MODEL, FRAME, OLD)]) == 0, "those that are there are not stored twice"


def test_a_prediction_that_comes_in_time_keeps_its_label(archive: Archive) -> None:
    late = small_frame(rows=1, seed=9).with_columns(row_id=FRAME["row_id"].head(1) + "-late")
    add_labels(archive, [told(MODEL, late, OLD)])
    add_predictions(archive, [predicted(MODEL, late)])
    drop_unmatched(archive, KEEP, NOW)
    assert archive.counts().joined == FRAME.height + 1
