"""Faults of a living stack: what loses rows, or serves the wrong model, when a person does what a message says."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import polars as pl
import pytest

from deployments.cli import run
from monitoring.part_files import LocalParts
from monitoring.partitions import PART_ROWS, Partitions
from perennial.errors import CorruptVersion, RegistryError
from perennial.model import Model
from perennial.registry import CHALLENGER, CHAMPION, Registry
from service.inference.model_watcher import ModelWatcher
from tests.service.serving import Serving, registry_of, rows, serving
from tests.support import models
from tests.support.waiting import wait_until

NAME, NOW = "small", datetime(2024, 1, 1, 12, tzinfo=UTC)
SCHEMA = pl.Schema({"_id": pl.Int64(), "t": pl.Datetime("us", "UTC")})


def numbered(first: int, count: int, day: datetime = NOW) -> pl.DataFrame:
    """Rows of one date, each under a number of its own."""
    return pl.DataFrame({"_id": range(first, first + count), "t": [day] * count}, schema=SCHEMA)


def partitions(folder: Path) -> Partitions:
    """A writer that has just been started."""
    return Partitions(LocalParts(folder), SCHEMA, ("_id",), "t", timedelta(hours=1))


@pytest.mark.parametrize(("parts", "deleted"), [(2, 0), (2, 1), (3, 1), (3, 0), (1, 0)])
def test_a_part_that_was_deleted_costs_its_own_rows_and_no_others(tmp_path: Path, parts: int, deleted: int) -> None:
    """As the doctor does that the message about a broken part names."""
    for part in range(parts):
        partitions(tmp_path).append(numbered(part * PART_ROWS, PART_ROWS))
    files = sorted(tmp_path.rglob("part-*.parquet"))
    assert len(files) == parts
    files[deleted].unlink()
    partitions(tmp_path).append(numbered(10**6, 5))
    lost = set(range(deleted * PART_ROWS, (deleted + 1) * PART_ROWS))
    kept = set(range(parts * PART_ROWS)) - lost | set(range(10**6, 10**6 + 5))
    assert set(partitions(tmp_path).scan().collect()["_id"]) == kept


def test_several_deleted_parts_of_several_dates_cost_no_others(tmp_path: Path) -> None:
    days = [NOW, NOW + timedelta(days=1)]
    for number, day in enumerate(days):
        for part in range(3):
            partitions(tmp_path).append(numbered((3 * number + part) * PART_ROWS, PART_ROWS, day))
    for path in tmp_path.rglob("part-*.parquet"):
        if path.name != "part-00002.parquet":
            path.unlink()
    for number, day in enumerate(days):
        partitions(tmp_path).append(numbered(10**6 + number, 1, day))
    assert partitions(tmp_path).scan().collect().height == 2 * (PART_ROWS + 1)


def promote(registry: Registry, version: int, alias: str = CHAMPION) -> None:
    registry.promote(NAME, alias, version, expect=registry.aliases(NAME).positions.get(alias), reason="test", now=NOW)


def delete(registry: Registry, version: int) -> None:
    shutil.rmtree(Path(registry.url, "models", NAME, "versions", str(version)))


def watch(registry: Registry, with_challenger: bool = False) -> ModelWatcher:
    quiet = SimpleNamespace(swapped=lambda _version: None, refused=lambda: None)
    watcher = ModelWatcher(registry, NAME, Path(), metrics=quiet, with_challenger=with_challenger)
    watcher.check()
    return watcher


def serves(watcher: ModelWatcher, model: Model) -> bool:
    """Whether the watcher's live model gives this model's scores."""
    assert watcher.live is not None
    frame = models.small_frame(rows=20)
    return bool((watcher.live.model.predict_frame(frame) == model.predict_frame(frame)).all())


def test_a_version_trained_after_one_was_deleted_is_served_under_a_number_of_its_own(registry: Registry) -> None:
    models.publish_small(registry, models.small_model(seed=1))
    watcher = watch(registry)
    models.publish_small(registry, models.small_model(seed=2))
    watcher.check()
    promote(registry, 1)
    watcher.check()
    delete(registry, 2)
    assert models.publish_small(registry, models.small_model(seed=3)) == 3
    watcher.check()
    assert serves(watcher, models.small_model(seed=3))


def test_the_number_of_a_version_that_was_never_promoted_is_not_given_again(registry: Registry) -> None:
    models.publish_small(registry, models.small_model(seed=1))
    assert models.publish_small(registry, models.small_model(seed=2), promote=False) == 2
    delete(registry, 2)
    assert models.publish_small(registry, models.small_model(seed=3), promote=False) == 3


def test_the_number_of_a_deleted_challenger_in_memory_is_not_given_again(registry: Registry) -> None:
    models.publish_small(registry, models.small_model(seed=1))
    models.publish_small(registry, models.small_model(seed=2), promote=False)
    promote(registry, 2, CHALLENGER)
    watcher = watch(registry, with_challenger=True)
    assert watcher.challenger is not None
    delete(registry, 2)
    assert models.publish_small(registry, models.small_model(seed=3)) == 3
    watcher.check()
    assert serves(watcher, models.small_model(seed=3))


def test_when_every_version_was_deleted_counting_goes_on(registry: Registry) -> None:
    for seed in (1, 2):
        models.publish_small(registry, models.small_model(seed=seed), promote=False)
    shutil.rmtree(Path(registry.url, "models", NAME, "versions"))
    assert models.publish_small(registry, models.small_model(seed=3), promote=False) == 3


GARBAGE = ["", "{", "null", "[]", "5", '{"generation": "first"}', "\x00", '{"format": 1}']


@pytest.fixture
def lagging(tmp_path: Path) -> Path:
    """A home whose newest move, of version 2, has not reached the pointer: the next reader follows the moves."""
    registry = registry_of(tmp_path)
    models.write_small(tmp_path)
    models.publish_small(registry, models.small_model(seed=1))
    pointer = Path(registry.url, "models", NAME, "aliases.json")
    before = pointer.read_bytes()
    models.publish_small(registry, models.small_model(seed=2))
    pointer.write_bytes(before)
    return tmp_path


def spoil(home: Path, content: str) -> Path:
    """Write garbage over the newest move."""
    newest = max(Path(registry_of(home).url, "models", NAME, "moves").iterdir())
    newest.write_text(content)
    return newest


@pytest.mark.parametrize("content", GARBAGE)
def test_rollback_names_a_spoilt_move_and_the_fix_in_one_line(
    lagging: Path, content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(lagging))
    newest = spoil(lagging, content)
    assert run(["rollback", str(lagging / "small.toml")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {newest} cannot be read (")
    assert error.endswith(
        "): restore it; the moves before it say where the aliases stood, and `perennial doctor --repair` rebuilds it\n"
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ["null", '{"model.json": 5}', "[1]", '{"files": null}'])
def test_a_spoilt_manifest_is_named_with_the_fix(registry: Registry, content: str) -> None:
    models.publish_small(registry, models.small_model())
    manifest = Path(registry.url, "models", NAME, "versions", "1", "manifest.json")
    manifest.write_text(content)
    with pytest.raises(CorruptVersion, match=r"versions/1/manifest\.json cannot be read .* promote another version of 'small'"):
        registry.read(NAME, 1)


def refused(service: Serving) -> str | None:
    """What /model says is wrong with the registry's champion."""
    described = service.client.get("/model")
    assert described.status_code == httpx.codes.OK
    reason: str | None = described.json()["refused"]
    return reason


def test_a_service_answers_on_beside_a_spoilt_move_and_says_what_is_wrong(tmp_path: Path, store_url: str) -> None:
    registry = registry_of(tmp_path)
    models.publish_small(registry, models.small_model(seed=1))
    with serving(tmp_path, store_url) as service:
        pointer = Path(registry.url, "models", NAME, "aliases.json")
        before = pointer.read_bytes()
        models.publish_small(registry, models.small_model(seed=2))
        newest = spoil(tmp_path, "{")
        pointer.write_bytes(before)
        described = wait_until(lambda: refused(service), 20, "the watcher to have looked")
        assert f"the registry cannot be read: {newest} cannot be read" in described
        assert service.predict(rows(3)).status_code == httpx.codes.OK  # over the same connection
        with pytest.raises(RegistryError, match="restore it"):
            registry.aliases(NAME)
