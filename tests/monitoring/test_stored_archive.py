"""The prediction log below a URL: the same rows, copies that follow what the store has, and nothing lost when it fails."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from monitoring.archive import Archive
from monitoring.erasure import Subject, erase_log, find_log_rows
from monitoring.part_files import COPIES
from perennial.errors import ArchiveError
from perennial.log_columns import ID, LABEL
from perennial.settings import load_settings
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import small_frame, small_model

MODEL = small_model()
FRAME = small_frame(rows=100, seed=1)
URL = "memory://perennial-logs/small"


@pytest.fixture(autouse=True)
def empty_store() -> Iterator[None]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield
    memory.store.clear()


def archive_on(machine: Path) -> Archive:
    return Archive(machine, "binary", MODEL.card.schema_, url=URL)


def test_one_machine_reads_what_another_has_written(tmp_path: Path) -> None:
    writer, reader = archive_on(tmp_path / "monitor"), archive_on(tmp_path / "notebook")
    assert reader.counts().predictions == 0
    half = FRAME.head(50)
    assert add_predictions(writer, [predicted(MODEL, half)]) == 50
    assert reader.counts().predictions == 50
    assert add_predictions(writer, [predicted(MODEL, FRAME)]) == 50  # the part grows: the copy is made anew
    assert add_labels(writer, [told(MODEL, FRAME)]) == 100
    assert reader.labelled().select(ID, LABEL).collect().height == 100
    assert reader.dates() == writer.dates()
    assert not (tmp_path / "monitor" / "predictions").exists()
    assert archive_on(tmp_path / "after-a-crash").store_predictions(writer.prediction_rows([predicted(MODEL, FRAME)])) == 0


def test_rows_that_are_forgotten_leave_store_and_copies(tmp_path: Path) -> None:
    archive, other = archive_on(tmp_path / "monitor"), archive_on(tmp_path / "notebook")
    add_predictions(archive, [predicted(MODEL, FRAME)])
    add_labels(archive, [told(MODEL, FRAME)])
    assert other.counts().joined == 100
    before = FRAME["asked_at"].min() + timedelta(days=2)  # type: ignore[operator]
    found = find_log_rows(tmp_path / "monitor", Subject(before=before), URL)
    assert (found.predictions, found.labels) == (48, 48)
    erase_log(found)
    assert other.counts() == archive.counts()
    assert other.counts().predictions == 52
    for machine in (tmp_path / "monitor", tmp_path / "notebook"):
        days = {path.parent.name for path in (machine / COPIES / "predictions").glob("date=*/*.parquet")}
        assert not days & {"date=2024-01-01", "date=2024-01-02"}


def test_a_write_that_fails_leaves_what_was_there_and_the_next_one_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_on(tmp_path)
    add_predictions(archive, [predicted(MODEL, FRAME.head(10))])

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("gone in the middle")

    with monkeypatch.context() as broken:
        broken.setattr(type(fsspec.filesystem("memory")), "pipe_file", fail)
        with pytest.raises(ArchiveError, match=r"part-00000.parquet cannot be written .*ConnectionResetError"):
            add_predictions(archive, [predicted(MODEL, FRAME.head(20))])
    assert archive.counts().predictions == 10
    assert add_predictions(archive, [predicted(MODEL, FRAME.head(20))]) == 10


def test_the_setting_names_a_directory_for_each_model(tmp_path: Path) -> None:
    settings = load_settings({"PERENNIAL_ARCHIVE": "s3://bucket/logs/"})
    assert settings.archive_url("small") == "s3://bucket/logs/small"
    assert load_settings({}).archive_url("small") is None
    shared = Archive(tmp_path / "home", "binary", MODEL.card.schema_, url=str(tmp_path / "mount" / "small"))
    add_predictions(shared, [predicted(MODEL, FRAME)])
    assert (tmp_path / "mount" / "small" / "predictions").is_dir()
    assert not (tmp_path / "home").exists()
