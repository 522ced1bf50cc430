"""Upgrades: what outlives a process carries its format, homes of earlier releases are read, and newer formats refused by name."""

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import redis

from deployments.cli import run
from deployments.stack.state import load_stack
from monitoring.consumer import StreamConsumer
from monitoring.dead_letters import read_dead_letters
from monitoring.history import model_history
from monitoring.label_retention import read_dropped
from monitoring.ledger import Ledger
from monitoring.partitions import FORMAT_KEY
from monitoring.state import load_results, load_state
from perennial.base import FORMAT
from perennial.errors import NewerFormat
from perennial.fleet import spec_files
from perennial.model_loading import load_model
from perennial.registry import CHAMPION
from service.prediction_log.adoption import bring_in, dead_logs
from service.prediction_log.streams import predictions_stream
from tasks.data.datasets import base_dataset
from tests.support.models import small_frame
from tests.support.processes import ROOT
from tests.support.whole_home import (
    STREAMS,
    archive,
    fill_streams,
    label_source,
    leave_queue,
    make_home,
    registry,
    stream_entries,
)

FIXTURES = ROOT / "tests" / "fixtures"
LARGEST = 200_000  # bytes of a kept home
KEPT = sorted(FIXTURES.glob("home-*"))


def json_format(path: Path) -> object:
    return json.loads(path.read_text())["format"]


def database_format(path: Path) -> object:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA user_version").fetchone()[0]


def part_format(path: Path) -> object:
    return int(pl.read_parquet_metadata(path)[FORMAT_KEY])


FORMATS: dict[str, Callable[[Path], object]] = {
    "small/predictions/**/*.parquet": part_format,
    "small/labels/**/*.parquet": part_format,
    "**/*.json": json_format,
    "**/*.db": database_format,
    "**/*.progress": lambda path: path.read_bytes()[8],
}
"""Where the format of each kind of file is."""

DESCRIBED = {
    "registry/models/*/numbers/*": "empty: its name says all",
    "registry/models/*/versions/*/model.txt": "the learner's own form; the card beside it has the format",
    "registry/models/*/versions/*/*.parquet": "the card beside it has the format",
    "small/datasets/parts/*.parquet": "the manifests that name it have the format",
    "small/datasets/.lock": "empty: held by the process that stores or deletes datasets",
    "small/label_source/**/*.parquet": "the state beside it has the format",
    "small.toml": "a person's",
    "labels.csv": "a person's",
    "rows.parquet": "a person's",
}
"""Files without a number of their own, and why."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    make_home(home)
    leave_queue(home)
    return home


def test_every_file_that_outlives_a_process_carries_its_format(home: Path) -> None:
    unknown = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        name = path.relative_to(home)
        if any(name.full_match(pattern) if hasattr(name, "full_match") else path in home.glob(pattern) for pattern in DESCRIBED):
            continue
        read = next((read for pattern, read in FORMATS.items() if path in set(home.glob(pattern))), None)
        if read is None:
            unknown.append(str(name))
        else:
            assert read(path) == FORMAT, name
    assert unknown == [], "a new kind of file needs a format, or a reason why it has none"


def test_every_stream_entry_carries_its_format(store: redis.Redis) -> None:
    fill_streams(store)
    entries = stream_entries(store)
    assert len({entry["stream"] for entry in entries}) == 3
    for entry in entries:
        assert base64.b64decode(entry["fields"]["v"]) == b"%d" % FORMAT
    bodies = [base64.b64decode(entry["fields"]["b"]) for entry in entries if not entry["stream"].endswith(":dead")]
    assert [json.loads(body)["format"] for body in bodies] == [FORMAT] * 2


def test_a_home_of_this_release_is_kept() -> None:
    assert KEPT, "python -m tests.support.whole_home tests/fixtures/home-VERSION"
    for kept in KEPT:
        assert sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) < LARGEST


@pytest.fixture(params=KEPT, ids=lambda path: path.name)
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a home that an earlier release has left."""
    shutil.copytree(request.param, tmp_path / "var")
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    return tmp_path / "var"


def test_a_kept_home_is_read(kept: Path) -> None:
    model, versions = kept / "small", registry(kept)
    assert versions.versions("small") == (1, 3)
    assert versions.aliases("small").positions[CHAMPION] == 3
    for version in (1, 3):
        load_model(versions, "small", version, kept)  # reproduces the scores stored with it
    assert len(load_results(model)) == 3
    assert load_state(model).closed_until == load_results(model)[-1].window.end
    assert len(Ledger(model).entries()) == 2
    assert len(model_history(model, versions, "small")) > 5
    counts = archive(kept).counts()
    assert (counts.predictions, counts.joined) == (168, 167)
    assert base_dataset(model).frame.equals(small_frame())
    assert label_source(kept).state.parts
    assert read_dropped(model).until is not None
    stack = load_stack(kept)
    assert stack is not None
    assert [model.name for model in stack.models] == ["small"]
    assert len(spec_files([kept / "stack" / "specs.json"])) == 1
    assert run(["history", "small"]) == 0


def test_what_waited_in_streams_and_queues_of_a_kept_home_is_archived(kept: Path, store: redis.Redis, store_url: str) -> None:
    for entry in json.loads((kept / STREAMS).read_text()):
        fields: Any = {name: base64.b64decode(value) for name, value in entry["fields"].items()}
        store.xadd(entry["stream"], fields)
    assert len(dead_logs(kept / "small/service/spool")) == 1
    assert bring_in(kept / "small/service/spool", store, store_url, "small") == (5, 0)
    assert store.xlen(predictions_stream("small")) == 2
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    found = consumer.ingest(consumer.read(), archive(kept))
    assert (found.predictions, found.labels, found.unreadable) == (10, 5, 0)
    assert len(list(read_dead_letters(store, "small"))) == 1


NEWER: dict[str, Callable[[Path], object]] = {
    "small/monitor/state.json": lambda home: load_state(home / "small"),
    "small/windows/*.json": lambda home: load_results(home / "small"),
    "small/label_source/state.json": label_source,
    "small/datasets/base.json": lambda home: base_dataset(home / "small"),
    "small/datasets/*/manifest.json": lambda home: base_dataset(home / "small"),
    "stack/stack.json": load_stack,
    "stack/specs.json": lambda home: spec_files([home / "stack" / "specs.json"]),
    "registry/models/small/aliases.json": lambda home: registry(home).aliases("small"),
    "registry/models/small/moves/*.json": lambda home: registry(home).history("small"),
    "registry/models/small/versions/*/manifest.json": lambda home: registry(home).read("small", 3),
    "small/predictions/*/*.parquet": lambda home: archive(home).scan().collect(),
}


@pytest.mark.parametrize("pattern", NEWER)
def test_a_newer_format_is_refused_by_name(pattern: str, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "var")
    path = max((tmp_path / "var").glob(pattern))
    if path.suffix == ".parquet":
        pl.read_parquet(path).write_parquet(path, metadata={FORMAT_KEY: str(FORMAT + 1)})
    else:
        path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "format": FORMAT + 1}))
    with pytest.raises(NewerFormat) as refused:
        NEWER[pattern](tmp_path / "var")
    assert str(path) in str(refused.value)
    assert f"was written by a newer release of Perennial (format {FORMAT + 1}, this one reads {FORMAT})" in str(refused.value)
