"""The prediction log: every prediction once, whatever is told twice, and the latest label of each."""

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from monitoring import partitions
from monitoring.archive import Archive, as_table
from perennial.errors import ArchiveError, DataError
from perennial.log_columns import EVENT_TIME, ID, LABEL, SCORE
from perennial.record import LabelBatch
from perennial.spec import Task
from tests.monitoring.room import no_room
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import START, small_frame, small_model

META = ("_id", "_digest", "_event_time", "_served_at", "_version", "_score")
MODEL = small_model()
FRAME = small_frame(rows=200, seed=1)


def archive_of(path: Path, task: Task = "binary") -> Archive:
    return Archive(path, task, small_model(task).card.schema_)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_row_comes_back_as_it_was_served(tmp_path: Path, task: Task) -> None:
    model, frame = small_model(task), small_frame(task, rows=50, seed=1)
    archive = archive_of(tmp_path, task)
    assert add_predictions(archive, [predicted(model, frame)]) == 50
    assert add_labels(archive, [told(model, frame)]) == 50
    rows = archive.labelled().sort(EVENT_TIME).collect()
    assert rows.columns == [*META, "amount", "shop", "_label", "_contradicted"]
    assert rows[SCORE].to_list() == model.predict_frame(frame).tolist()
    table = as_table(rows, model.card.schema_, labels=True)
    assert table.select("amount", "shop", "asked_at").equals(frame.select("amount", "shop", "asked_at"))
    assert (model.label_codec.encode_column(table["outcome"]) == model.label_codec.encode_column(frame["outcome"])).all()


def test_a_prediction_told_twice_is_one_row(tmp_path: Path) -> None:
    archive, batch = archive_of(tmp_path), predicted(MODEL, FRAME)
    assert add_predictions(archive, [batch, batch]) == 200
    assert add_predictions(archive, [batch]) == 0
    # Another process after a crash has no memory of it, and a retry may carry another time.
    later = replace(batch, event_times=tuple(time + timedelta(minutes=9) for time in batch.event_times))
    assert add_predictions(archive_of(tmp_path), [batch, later]) == 0
    assert archive.scan().collect().height == 200


def test_the_latest_label_wins_and_one_told_twice_counts_once(tmp_path: Path) -> None:
    archive, labels = archive_of(tmp_path), told(MODEL, FRAME)
    add_predictions(archive, [predicted(MODEL, FRAME)])
    assert add_labels(archive, [labels]) == 200
    assert add_labels(archive_of(tmp_path), [labels]) == 0
    other = replace(
        labels, labels=tuple(not label for label in labels.labels), received_at=labels.received_at + timedelta(days=3)
    )
    add_labels(archive, [other])
    earlier = replace(other, labels=labels.labels, received_at=labels.received_at - timedelta(hours=1))
    add_labels(archive, [earlier])
    rows = archive.labelled().collect().sort(EVENT_TIME)
    assert rows[LABEL].to_list() == list(other.labels)
    assert archive.counts().model_dump() == {"predictions": 200, "labels": 200, "joined": 200}


def test_labels_join_whenever_they_come_and_foreign_ones_join_nothing(tmp_path: Path) -> None:
    archive, labels = archive_of(tmp_path), told(MODEL, FRAME)
    add_labels(archive, [replace(labels, ids=("stranger",), labels=(True,), event_times=(None,))])
    add_predictions(archive, [predicted(MODEL, FRAME)])
    assert archive.labelled().collect().is_empty()
    add_labels(archive, [replace(labels, received_at=labels.received_at + timedelta(days=400))])
    assert archive.with_labels(START, START + timedelta(days=2)).collect()[LABEL].null_count() == 0
    assert archive.counts().model_dump() == {"predictions": 200, "labels": 201, "joined": 200}


def test_scan_is_half_open_and_unlabelled_rows_stay(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    add_predictions(archive, [predicted(MODEL, FRAME)])
    since, until = START + timedelta(hours=30), START + timedelta(hours=60)
    rows = archive.with_labels(since, until).collect()
    assert rows.height == 30
    assert (rows[EVENT_TIME].min(), rows[EVENT_TIME].max()) == (since, until - timedelta(hours=1))
    assert rows[LABEL].null_count() == 30


def test_an_empty_log_has_a_schema_and_no_edges(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    assert archive.labelled().collect().is_empty()
    assert add_predictions(archive, []) == add_labels(archive, []) == 0
    assert archive.oldest() is None
    assert archive.newest(START) == ()
    assert archive.counts().predictions == 0


def test_a_time_in_the_far_future_does_not_move_the_watermark(tmp_path: Path) -> None:
    archive, batch = archive_of(tmp_path), predicted(MODEL, FRAME)
    stray = replace(batch, ids=tuple(f"s{n}" for n in range(200)), event_times=(datetime(2900, 1, 1, tzinfo=UTC),) * 200)
    first = replace(stray, ids=tuple(f"f{n}" for n in range(200)), event_times=(datetime(1, 1, 1, tzinfo=UTC),) * 200)
    add_predictions(archive, [batch, stray, first])
    assert archive.newest(START + timedelta(days=30)) == tuple(zip(batch.event_times, batch.ids, strict=True))[:-4:-1]
    assert archive.oldest() == START
    assert len(archive.dates()) == 11


def test_a_column_the_serving_version_did_not_have_is_null(tmp_path: Path) -> None:
    archive, batch = archive_of(tmp_path), predicted(MODEL, FRAME)
    older = replace(batch, columns={"amount": batch.columns["amount"], "gone": batch.columns["shop"]})
    add_predictions(archive, [older])
    rows = archive.scan().collect()
    assert rows["shop"].null_count() == 200
    assert "gone" not in rows.columns


def test_whole_numbers_are_numbers_and_texts_are_not(tmp_path: Path) -> None:
    archive, batch = archive_of(tmp_path), predicted(MODEL, FRAME.head(2))
    add_predictions(archive, [replace(batch, columns={**batch.columns, "amount": (1, 2.5)})])
    assert archive.scan().collect()["amount"].to_list() == [1.0, 2.5]
    with pytest.raises(DataError, match=r"column 'amount' holds float, str where the model takes a finite number"):
        add_predictions(archive, [replace(batch, columns={**batch.columns, "amount": ("secret", 2.5)})])


@pytest.mark.parametrize(
    ("task", "label"), [("binary", "perhaps"), ("regression", "x"), ("regression", float("nan")), ("multiclass", 1.5)]
)
def test_what_is_no_label_is_refused_without_repeating_it(tmp_path: Path, task: Task, label: float | str) -> None:
    model = small_model(task)
    batch = replace(told(model, small_frame(task)), ids=("a",), labels=(label,), event_times=(None,))
    with pytest.raises(DataError, match=f"is not .*, as the labels of a {task} model are") as caught:
        add_labels(Archive(tmp_path, task, model.card.schema_), [batch])
    assert repr(label) not in str(caught.value)


def test_many_small_writes_make_few_files(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    for part in FRAME.iter_slices(10):
        add_predictions(archive, [predicted(MODEL, part)])
    assert len(list(tmp_path.glob("predictions/date=*/*.parquet"))) == len(archive.dates()) == 9


def test_a_large_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PART_ROWS", 8)
    archive = archive_of(tmp_path)
    for part in FRAME.head(24).iter_slices(5):
        add_predictions(archive, [predicted(MODEL, part)])
    assert [pl.read_parquet(path).height for path in sorted(tmp_path.glob("predictions/date=2024-01-01/*"))] == [10, 10, 4]


def test_a_reader_sees_every_row_once_while_files_are_rewritten(tmp_path: Path) -> None:
    """A retraining reads the log while the monitor writes it."""
    archive, seen, over = archive_of(tmp_path), [0], threading.Event()
    trouble: list[str] = []

    def look() -> None:
        reader = archive_of(tmp_path)
        while not over.is_set():
            ids = reader.scan().select(ID).collect()[ID]
            if ids.is_duplicated().any() or len(ids) < seen[-1]:
                trouble.append(f"{len(ids)} rows after {seen[-1]}, {ids.n_unique()} different")
            seen.append(len(ids))

    watcher = threading.Thread(target=look)
    watcher.start()
    for part in FRAME.iter_slices(2):
        add_predictions(archive, [predicted(MODEL, part)])
    over.set()
    watcher.join()
    assert not trouble
    assert len(set(seen)) > 2


def test_a_full_disk_is_an_archive_error_and_loses_nothing(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    add_predictions(archive, [predicted(MODEL, FRAME.head(20))])
    with no_room(), pytest.raises(ArchiveError, match=r"part-00000.parquet cannot be written .*free space"):
        add_predictions(archive, [predicted(MODEL, FRAME)])
    assert archive_of(tmp_path).scan().collect().height == 20
    assert not list(tmp_path.rglob(".staged-*"))
    assert add_predictions(archive, [predicted(MODEL, FRAME)]) == 180
    assert archive.scan().collect()[ID].n_unique() == 200


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    add_predictions(archive, [predicted(MODEL, FRAME)])
    broken = tmp_path / "predictions" / f"date={date(2024, 1, 1)}" / "part-00000.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(ArchiveError, match=r"part-00000.parquet cannot be read .*restore it"):
        archive_of(tmp_path).oldest()
    with pytest.raises(ArchiveError, match=r"part-00000.parquet cannot be read .*restore it"):
        add_predictions(archive_of(tmp_path), [predicted(MODEL, FRAME)])


def test_labels_of_rows_dated_before_their_receipt(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    add_labels(archive, [LabelBatch(MODEL.card.name, START, ("a",), (True,), (None,))])
    assert archive.labels().collect().rows() == [("a", True, START, None)]


def test_a_deleted_part_is_not_replaced_by_writing_over_its_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PART_ROWS", 100)
    archive, day = archive_of(tmp_path), FRAME.with_columns(asked_at=pl.lit(START))
    for part in day.iter_slices(100):
        add_predictions(archive, [predicted(MODEL, part)])
    first, second = sorted(tmp_path.rglob("part-*.parquet"))
    first.unlink()
    add_predictions(archive_of(tmp_path), [predicted(MODEL, day.head(100))])
    assert [path.name for path in sorted(tmp_path.rglob("part-*.parquet"))] == [second.name, "part-00002.parquet"]
    assert archive_of(tmp_path).scan().collect().height == 200
