"""Kinds of damage: how each is done to files that the real code wrote, and what shows that they work again."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deployments.cli import run
from deployments.stack.state import load_stack
from monitoring.archive import Archive
from monitoring.ledger import Ledger, read_entry
from monitoring.state import load_results, load_state
from monitoring.trouble import read_trouble
from perennial.fleet import spec_files
from perennial.input_contract import set_base
from perennial.model_loading import load_card
from perennial.registry import CHALLENGER, CHAMPION, Registry
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.progress_file import create_progress
from tasks.data.datasets import base_dataset, dataset_files, read_manifest, store_dataset
from tasks.data.label_source import LabelSource
from tests.monitoring.streams import predicted, told
from tests.service.prediction_log.test_disk_queue import entries
from tests.support.lived import FIRST, WEEK
from tests.support.models import publish_small, small_frame, small_model, small_spec
from tests.support.whole_home import REQUEST, archive, label_source

NOW = datetime.now(UTC)
TWO_HOURS_AGO = (NOW - timedelta(hours=2)).timestamp()


@dataclass(frozen=True)
class Home:
    """A home directory that a test may damage, and what the product reads in it."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "small"

    @property
    def registry(self) -> Registry:
        return Registry(str(self.path / "registry"))

    @property
    def versions(self) -> Path:
        return self.path / "registry" / "models" / "small"

    @property
    def spool(self) -> Path:
        return self.model / "service" / "spool"

    def archive(self) -> Archive:
        return archive(self.path)

    def label_source(self) -> LabelSource:
        return label_source(self.path)


GARBAGE = b'{"generation": "first", \x00'


def spoil(path: Path) -> Path:
    assert path.exists()
    path.write_bytes(GARBAGE)
    return path


def cut(path: Path) -> Path:
    """As a disk that lost power leaves a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def cut_dataset(home: Home) -> Path:
    directory = newest(home.model / "datasets", "*/manifest.json").parent
    cut(dataset_files(home.model, read_manifest(directory))[-1])
    return directory


def flip(path: Path) -> Path:
    """Wrong bytes in the middle of the data, under a footer that is right."""
    content = bytearray(path.read_bytes())
    content[8:40] = b"\xff" * 32
    path.write_bytes(content)
    return path


def newest(folder: Path, pattern: str = "*") -> Path:
    return max(folder.glob(pattern))


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def write(path: Path, content: bytes = b"half") -> Path:
    """A file that was never finished, old by now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    for one in (path, path.parent):
        os.utime(one, (TWO_HOURS_AGO, TWO_HOURS_AGO))
    return path


def remove(path: Path) -> Path:
    path.unlink()
    return path


def aliases_stand(home: Home) -> bool:
    """Whether every alias is where the life has put it, whoever asks, and another move can be made."""
    known = {CHALLENGER: 3, CHAMPION: 3, "rejected": 2}
    moved = home.registry.promote("small", CHALLENGER, 2, expect=3, reason="test", now=NOW)
    return moved.positions == {**known, CHALLENGER: 2} and len(home.registry.history("small")) == moved.generation


def windows(home: Home, count: int) -> bool:
    return len(load_results(home.model)) == count and run(["history", "small"]) == 0


def state_stands(home: Home) -> bool:
    state = load_state(home.model)
    last = state.last_request
    assert state.closed_until == FIRST + 3 * WEEK
    assert last is not None
    assert (last.request.cause, last.request.window_start) == ("promotion", FIRST + WEEK)
    assert state.account is not None
    return (state.account.champion, [pair.version for pair in state.account.predecessor]) == (3, [1])


def grows(home: Home, table: str, kept: int) -> bool:
    """Whether the rows of all other parts are there, and more can be written to the date of the damaged one."""
    archive, model = home.archive(), small_model()
    rows = archive.scan() if table == "predictions" else archive.labels()
    assert rows.collect().height == kept
    again = small_frame(rows=168, seed=11, start=FIRST)
    if table == "predictions":
        return archive.store_predictions(archive.prediction_rows([predicted(model, again)])) > 0
    return archive.store_labels(archive.label_rows([told(model, again, received_at=NOW)])) > 0


def orphan(home: Home) -> Path:
    """A disk queue of a process that died and whose progress file is gone."""
    progress = create_progress(home.spool)
    queue = DiskQueue(home.spool, progress.source)
    queue.write(entries(0, 5))
    queue.close()
    progress.remove()
    return home.spool / f"{progress.source}.db"


def queued(home: Home, count: int) -> bool:
    """Whether a service that starts now finds the rows: a queue with them beside a progress file that no process owns."""
    (path,) = home.spool.glob("*.db")
    assert path.with_suffix(".progress").exists()
    queue = DiskQueue(home.spool, path.stem)
    waiting = queue.counts.waiting
    queue.close()
    # As the service that brings them in then does; else the queue stays a dead process's, which is a finding.
    path.unlink()
    path.with_suffix(".progress").unlink()
    return waiting == count


def damaged_queue(home: Home) -> Path:
    """What the service sets aside when SQLite finds a queue damaged in the middle."""
    progress = create_progress(home.spool)
    path = home.spool / f"{progress.source}.db"
    queue = DiskQueue(home.spool, progress.source)
    for number in range(50):
        queue.write(entries(number, number + 1, size=4_000))
    queue.close()
    progress.remove()
    content = bytearray(path.read_bytes())
    content[-20_000:] = b"\xff" * 20_000
    path.write_bytes(content)
    return path.rename(path.with_suffix(".damaged"))


def some_queued(home: Home) -> bool:
    paths = list(home.spool.glob("*.db"))
    queues = [DiskQueue(home.spool, path.stem) for path in paths]
    found = sum(queue.counts.waiting for queue in queues)
    for queue in queues:
        queue.close()
    for path in home.spool.iterdir():
        path.unlink()
    return 0 < found < 50


def can_retrain(home: Home) -> bool:
    """Whether the next training makes a base anew."""
    spec = small_spec()
    data = store_dataset(small_frame(), spec.event_time, home.model, ("test",), NOW)
    set_base(home.model, data.manifest.fingerprint, spec, small_model().compiled.features.kinds)
    return base_dataset(home.model).frame.equals(small_frame())


def reads_labels_anew(home: Home) -> bool:
    before = home.archive().counts()
    return home.label_source().poll(home.archive(), (), NOW) == 2 and home.archive().counts() == before


def database(home: Home) -> Path:
    path = home.path / "stack" / "prefect" / "prefect.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.executemany("INSERT INTO runs VALUES (?)", [("x" * 500,)] * 500)
    connection.close()
    content = bytearray(path.read_bytes())
    content[5_000:60_000] = b"\xff" * 55_000
    path.write_bytes(content)
    return path


def part(home: Home, table: str) -> Path:
    return min((home.model / table).rglob("*.parquet"))


def half_published(home: Home) -> Path:
    """What a publisher leaves that dies before the manifest: it has a number and some files."""
    (home.versions / "numbers" / "4").touch()
    return write(home.versions / "versions/4/model.txt").parent


def receipt_of_a_version(home: Home) -> Path:
    event = load_card(home.registry, "small", 3).cause.event_id
    assert event is not None
    return write(home.model / "requests" / f"{event}.json")


def receipt_stands(home: Home) -> bool:
    entry = read_entry(home.model, load_card(home.registry, "small", 3).cause.event_id or "")
    return entry is not None and entry.outcome == "challenger" and "version 3" in entry.steps[-1].reason


Damaging, Working = Callable[[Home], Path], Callable[[Home], bool]

KINDS: dict[str, tuple[Damaging, Working]] = {
    "aliases: garbage": (lambda home: spoil(home.versions / "aliases.json"), aliases_stand),
    "aliases: another champion": (
        lambda home: edit(home.versions / "aliases.json", '"champion":3', '"champion":99'),
        aliases_stand,
    ),
    "aliases: of no generation": (
        lambda home: edit(home.versions / "aliases.json", '"generation":5', '"generation":-5'),
        aliases_stand,
    ),
    "aliases: ahead of the moves": (
        lambda home: edit(home.versions / "aliases.json", '"generation":5', '"generation":50'),
        aliases_stand,
    ),
    "moves: the newest": (lambda home: spoil(newest(home.versions / "moves")), aliases_stand),
    "moves: one between": (lambda home: spoil(home.versions / "moves" / "00000003.json"), aliases_stand),
    "moves: one is missing": (lambda home: remove(home.versions / "moves" / "00000002.json"), aliases_stand),
    "versions: manifest": (
        lambda home: spoil(home.versions / "versions/2/manifest.json").parent,
        lambda home: home.registry.versions("small") == (1, 3),
    ),
    "versions: a file": (
        lambda home: cut(newest(home.versions / "versions/1", "*.txt")).parent,
        lambda home: home.registry.versions("small") == (2, 3),
    ),
    "versions: never finished": (
        half_published,
        lambda home: publish_small(home.registry, small_model(), promote=False) == 5,
    ),
    "state: garbage": (lambda home: spoil(home.model / "monitor/state.json"), state_stands),
    "state: in the future": (
        lambda home: edit(home.model / "monitor/state.json", str(FIRST.year), "2924"),
        state_stands,
    ),
    "windows": (lambda home: spoil(newest(home.model / "windows")), lambda home: windows(home, 2)),
    "decisions: a step": (
        lambda home: spoil(home.model / "decisions" / REQUEST / "0001.json"),
        lambda home: len(Ledger(home.model).entries()) == 1,
    ),
    "receipts: of a version": (receipt_of_a_version, receipt_stands),
    "trouble": (lambda home: spoil(home.model / "monitor/trouble.json"), lambda home: read_trouble(home.model) is None),
    "archive: a part cut in half": (
        lambda home: cut(part(home, "predictions")),
        lambda home: grows(home, "predictions", 3 * 168 - 24),
    ),
    "archive: wrong bytes in a part": (
        lambda home: flip(part(home, "predictions")),
        lambda home: grows(home, "predictions", 3 * 168 - 24),
    ),
    "archive: labels": (
        lambda home: cut(part(home, "labels")),
        lambda home: grows(home, "labels", 3 * 168 - 1 + 2 - 168),
    ),
    "archive: no date": (
        lambda home: write(home.model / "predictions/date=2024-13-45/part-00000.parquet").parent,
        lambda home: home.archive().oldest() is not None,
    ),
    "archive: no part": (
        lambda home: write(part(home, "predictions").with_name("part-0a.parquet")),
        lambda home: home.archive().scan().collect().height == 3 * 168,
    ),
    "label source: state": (lambda home: spoil(home.model / "label_source/state.json"), reads_labels_anew),
    "label source: rows": (lambda home: cut(home.model / "label_source/current.parquet"), reads_labels_anew),
    "spool: no progress file": (orphan, lambda home: queued(home, 5)),
    "spool: damaged": (damaged_queue, some_queued),
    "dataset: rows": (cut_dataset, can_retrain),
    "dataset: manifest": (lambda home: spoil(newest(home.model / "datasets", "*/manifest.json")).parent, can_retrain),
    "dataset: base": (lambda home: spoil(home.model / "datasets/base.json"), can_retrain),
    "stack: state": (lambda home: spoil(home.path / "stack/stack.json"), lambda home: load_stack(home.path) is None),
    "stack: specs": (
        lambda home: spoil(home.path / "stack/specs.json"),
        lambda home: len(spec_files([home.path / "stack/specs.json"])) == 1,
    ),
    "stack: Prefect's database": (database, lambda home: not (home.path / "stack/prefect/prefect.db").exists()),
    "left over": (lambda home: write(home.model / ".staged-1"), lambda home: not (home.model / ".staged-1").exists()),
}
