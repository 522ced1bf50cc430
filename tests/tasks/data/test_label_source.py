"""The label source: polled, each label delivered once, corrections in order, files that cannot be read tried again."""

import logging
import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from monitoring.archive import Archive
from perennial.errors import ArchiveError
from perennial.log_columns import ID, LABEL
from perennial.spec_sources import LabelsSpec
from tasks.data import label_source as module
from tasks.data.label_source import LabelSource, load_state
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import small_frame, small_model, small_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = (NOW - timedelta(days=1)).timestamp()


class Room:
    """A model's home, a directory of label files, and the source that reads them; each poll is a minute after the last."""

    def __init__(self, directory: Path, **keys: Any) -> None:
        self.directory, self.now, self.keys = directory, NOW, keys or {"path": "labels/*.csv"}
        self.archive = Archive(directory / "home", "binary", small_model().card.schema_)
        (directory / "labels").mkdir()

    def source(self) -> LabelSource:
        environ = {"WAREHOUSE": f"sqlite:///{self.directory}/warehouse.db"}
        return LabelSource(small_spec(), LabelsSpec(**self.keys), self.directory, self.directory / "home", environ)

    def write(self, name: str, text: str, *, just_now: bool = False) -> Path:
        file = self.directory / "labels" / name
        file.write_text(text)
        if not just_now:
            os.utime(file, (OLD, OLD + len(text)))
        return file

    def poll(self) -> int:
        """A poll by a monitor that has just begun."""
        self.now += timedelta(minutes=1)
        return self.source().poll(self.archive, (), self.now)

    def sent(self) -> list[tuple[str, bool]]:
        return self.archive.labels().select(ID, LABEL).collect().rows()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_each_label_is_delivered_once_and_a_later_one_replaces_it(room: Room) -> None:
    room.write("a.csv", "id,label\nx,0\ny,1\n")
    assert (room.poll(), room.poll()) == (2, 0)
    room.write("a.csv", "id,label\nx,0\ny,1\nz,1\nx,1\n")
    assert (room.poll(), room.poll()) == (2, 0)
    assert room.sent() == [("x", False), ("y", True), ("z", True), ("x", True)]


def test_what_stands_in_several_files_is_delivered_once_and_an_old_file_corrects_nothing(room: Room) -> None:
    room.write("a.csv", "id,label\nx,0\ny,1\n")
    room.poll()
    room.write("b.csv", "id,label\nx,1\ny,1\n")
    assert room.poll() == 1
    room.write("a.csv", "id,label\nx,0\ny,1\nw,0\n")
    assert room.poll() == 1, "x was read from this file before"
    assert room.sent() == [("x", False), ("y", True), ("x", True), ("w", False)]


def test_a_correction_over_http_stands_against_a_file_that_did_not_change_its_mind(room: Room) -> None:
    rows = small_frame(rows=30)
    add_predictions(room.archive, [predicted(small_model(), rows)])
    first = rows["row_id"][0]
    room.write("a.csv", f"id,label\n{first},0\n")
    room.poll()
    batch = told(small_model(), rows.head(1).with_columns(outcome=pl.lit(1)), received_at=room.now + timedelta(seconds=30))
    add_labels(room.archive, [batch])
    room.write("a.csv", f"id,label\n{first},0\nlater,1\n")
    assert room.poll() == 1
    assert room.archive.labelled().select(ID, LABEL).collect().rows() == [(first, True)]


def test_a_label_that_comes_before_its_prediction_waits_for_it(room: Room) -> None:
    rows = small_frame(rows=30)
    room.write("a.csv", f"id,label\n{rows['row_id'][3]},1\nunknown,0\n")
    assert room.poll() == 2
    add_predictions(room.archive, [predicted(small_model(), rows)])
    assert room.archive.labelled().select(ID, LABEL).collect().rows() == [(rows["row_id"][3], True)]


def test_a_garbled_file_is_named_once_and_read_when_it_is_whole(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    whole = pl.DataFrame({"id": ["x"], "label": [1]})
    room.keys = {"path": "labels/*.parquet"}
    whole.write_parquet(room.directory / "labels" / "good.parquet")
    file = room.directory / "labels" / "bad.parquet"
    file.write_bytes((room.directory / "labels" / "good.parquet").read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert (room.poll(), room.poll()) == (1, 0)
    assert [record.getMessage().count(str(file)) > 0 for record in caplog.records] == [True]
    assert str(file) in str(load_state(room.directory / "home").parts[str(file)].error)
    whole.with_columns(id=pl.lit("y")).write_parquet(file)
    assert room.poll() == 1
    assert load_state(room.directory / "home").parts[str(file)].error is None


def test_a_line_that_does_not_end_waits_until_the_file_rests(room: Room) -> None:
    file = room.write("a.csv", "id,label\nx,0\ny,1\n12", just_now=True)
    room.now = datetime.now(UTC) - timedelta(minutes=1)
    assert room.poll() == 2
    with file.open("a") as stream:
        stream.write("3,1")
    room.now = datetime.now(UTC) - timedelta(minutes=1)
    assert room.poll() == 0
    assert room.poll() == 1, "it has not changed between two polls"
    assert [name for name, _ in room.sent()] == ["x", "y", "123"]


def test_a_file_that_changes_while_it_is_read_is_read_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    file = room.write("a.csv", "id,label\nx,0\n")
    read = module.read_label_table

    def read_slowly(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        file.write_text("id,label\nx,0\ny,1\n")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_label_table", read_slowly)
        assert room.poll() == 0
    assert "is being written still" in str(load_state(room.directory / "home").parts[str(file)].error)
    assert room.poll() == 2


@pytest.mark.parametrize("step", ["_store", "_save"])
def test_a_crash_after_the_delivery_delivers_nothing_twice(room: Room, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    room.write("a.csv", "id,label\nx,0\ny,1\n")
    store = Archive.store_labels

    def crash(*_arguments: object) -> None:
        raise ArchiveError("the machine is gone")

    def store_and_crash(archive: Archive, rows: pl.DataFrame) -> int:
        done = store(archive, rows)
        monkeypatch.setattr(LabelSource, step, crash)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "store_labels", store_and_crash)
        with pytest.raises(ArchiveError, match="the machine is gone"):
            room.poll()
    monkeypatch.undo()
    room.write("a.csv", "id,label\nx,0\ny,1\nz,1\n")
    room.poll()
    assert sorted(room.sent()) == [("x", False), ("y", True), ("z", True)]


def test_an_unchanged_file_costs_a_look_at_its_date(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.write("a.csv", "id,label\nx,0\n")
    room.poll()
    monkeypatch.setattr(module, "read_label_table", None)
    assert room.poll() == 0


def test_between_two_polls_nothing_is_looked_at_but_for_a_window_that_closes(room: Room) -> None:
    source = room.source()
    assert source.poll(room.archive, (), NOW) == 0
    room.write("a.csv", "id,label\nx,0\n")
    assert source.poll(room.archive, (), NOW + timedelta(seconds=59)) == 0
    assert source.poll(room.archive, (), NOW + timedelta(seconds=59), at_once=True) == 1


@pytest.mark.parametrize("where", ["", " WHERE settled >= :since"])
def test_a_query_gives_what_is_new(tmp_path: Path, where: str) -> None:
    query = f"SELECT id, label, settled FROM outcomes{where} ORDER BY settled"
    room = Room(tmp_path, query=query, connection="WAREHOUSE", time="settled")
    insert(room, [("x", 0, "2024-01-01 06:00:00"), ("y", 1, "2024-01-02 06:00:00")])
    assert (room.poll(), room.poll()) == (2, 0)
    insert(room, [("x", 1, "2024-01-03 06:00:00")])
    assert (room.poll(), room.poll()) == (1, 0)
    assert room.sent() == [("x", False), ("y", True), ("x", True)]
    assert load_state(tmp_path / "home").newest == datetime(2024, 1, 3, 6, tzinfo=UTC)


def test_a_database_that_is_away_is_tried_again(tmp_path: Path) -> None:
    room = Room(tmp_path, query="SELECT id, label FROM outcomes", connection="WAREHOUSE")
    assert room.poll() == 0
    (part,) = load_state(tmp_path / "home").parts.values()
    assert "no such table" in str(part.error)
    insert(room, [("x", 0, "2024-01-01 06:00:00")])
    assert room.poll() == 1


def insert(room: Room, rows: Sequence[tuple[str, int, str]]) -> None:
    connection = sqlite3.connect(room.directory / "warehouse.db")
    connection.execute("CREATE TABLE IF NOT EXISTS outcomes (id TEXT, label INTEGER, settled TEXT)")
    connection.executemany("INSERT INTO outcomes VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
