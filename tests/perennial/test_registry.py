"""Versions never change, aliases move by compare-and-set, and damage is named."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest

from perennial.errors import AliasConflict, CorruptVersion, NewerFormat, RegistryError, VersionNotFound
from perennial.registry import Aliases, Registry

NOW = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def files(number: int) -> Mapping[str, bytes]:
    return {"model.txt": f"tree {number}".encode(), "model.json": b"{}"}


def promote(registry: Registry, version: int, expect: int | None) -> Aliases:
    return registry.promote("flights", "champion", version, expect=expect, reason="test", now=NOW)


def test_versions_count_up_and_read_back(registry: Registry) -> None:
    assert [registry.publish("flights", files) for _ in range(3)] == [1, 2, 3]
    assert registry.versions("flights") == (1, 2, 3)
    assert registry.read("flights", 2) == files(2)


def test_models_do_not_see_each_other(registry: Registry) -> None:
    registry.publish("flights", files)
    assert registry.versions("bikes") == ()
    assert registry.aliases("bikes") == Aliases()


@pytest.mark.parametrize("damage", [b"tree 7", b""])
def test_a_changed_file_is_refused_by_name(registry: Registry, damage: bytes) -> None:
    registry.publish("flights", files)
    Path(registry.url, "models/flights/versions/1/model.txt").write_bytes(damage)
    with pytest.raises(CorruptVersion, match=r"versions/1/model\.txt does not match"):
        registry.read("flights", 1)


def test_a_missing_file_is_refused_by_name(registry: Registry) -> None:
    registry.publish("flights", files)
    Path(registry.url, "models/flights/versions/1/model.txt").unlink()
    with pytest.raises(CorruptVersion, match=r"model\.txt of 'flights' version 1 is missing"):
        registry.read("flights", 1)


def test_other_users_may_read_what_the_umask_lets_them(registry: Registry) -> None:
    registry.publish("flights", files)
    before = os.umask(0o022)
    os.umask(before)
    manifest = Path(registry.url, "models/flights/versions/1/manifest.json")
    assert manifest.stat().st_mode & 0o777 == 0o666 & ~before


def test_a_publisher_that_dies_leaves_no_version(registry: Registry) -> None:
    def dies(number: int) -> Mapping[str, bytes]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        registry.publish("flights", dies)
    assert registry.versions("flights") == ()
    assert registry.publish("flights", files) == 2


def test_an_unknown_version_is_named_with_those_there_are(registry: Registry) -> None:
    registry.publish("flights", files)
    with pytest.raises(VersionNotFound, match=r"no version 9 .* it has \[1\]"):
        registry.read("flights", 9)
    with pytest.raises(VersionNotFound, match="no version 9"):
        promote(registry, 9, expect=None)


def test_promotions_are_remembered_in_order(registry: Registry) -> None:
    for _ in range(2):
        registry.publish("flights", files)
    promote(registry, 1, expect=None)
    registry.promote("flights", "challenger", 2, expect=None, reason="drift", now=NOW)
    aliases = promote(registry, 2, expect=1)
    assert (aliases.champion, aliases.challenger, aliases.generation) == (2, 2, 3)
    assert [(move.alias, move.previous, move.version) for move in registry.history("flights")] == [
        ("champion", None, 1),
        ("challenger", None, 2),
        ("champion", 1, 2),
    ]


def test_the_files_that_stay_carry_their_format(registry: Registry) -> None:
    registry.publish("flights", files)
    promote(registry, 1, expect=None)
    model = Path(registry.url, "models/flights")
    aliases = json.loads((model / "aliases.json").read_text())
    assert aliases == {
        "format": 1,
        "generation": 1,
        "positions": {"champion": 1},
        "token": 0,
        "moved_at": "2013-03-01T00:00:00Z",
    }
    for name in ("moves/00000001.json", "versions/1/manifest.json"):
        assert json.loads((model / name).read_text())["format"] == 1


@pytest.mark.parametrize("name", ["moves/00000001.json", "versions/1/manifest.json", "aliases.json"])
def test_a_file_of_a_newer_release_is_named(registry: Registry, name: str) -> None:
    registry.publish("flights", files)
    promote(registry, 1, expect=None)
    Path(registry.url, "models/flights", name).write_text('{"format": 2}')
    with pytest.raises(NewerFormat, match=f"{name} was written by a newer release"):
        (registry.history("flights"), registry.read("flights", 1))


def test_a_stale_promoter_is_refused(registry: Registry) -> None:
    for _ in range(3):
        registry.publish("flights", files)
    promote(registry, 1, expect=None)
    promote(registry, 2, expect=1)
    with pytest.raises(AliasConflict, match="champion of 'flights' is at version 2, not 1"):
        promote(registry, 3, expect=1)


def test_of_many_promoters_at_once_exactly_one_wins(registry: Registry) -> None:
    racers = 8
    for _ in range(racers):
        registry.publish("flights", files)
    start = Barrier(racers)

    def race(version: int) -> bool:
        start.wait()
        try:
            promote(registry, version, expect=None)
        except AliasConflict:
            return False
        return True

    with ThreadPoolExecutor(racers) as pool:
        won = list(pool.map(race, range(1, racers + 1)))
    assert won.count(True) == 1
    assert registry.aliases("flights").champion == won.index(True) + 1


def test_many_publishers_at_once_get_distinct_versions(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: registry.publish("flights", files), range(8)))
    assert sorted(numbers) == list(registry.versions("flights"))
    assert all(registry.read("flights", number) == files(number) for number in numbers)


def test_a_promoter_that_dies_before_the_pointer_has_still_promoted(registry: Registry) -> None:
    for _ in range(2):
        registry.publish("flights", files)
    promote(registry, 1, expect=None)
    pointer = Path(registry.url, "models/flights/aliases.json")
    before = pointer.read_bytes()
    promote(registry, 2, expect=1)
    pointer.write_bytes(before)
    assert registry.aliases("flights").champion == 2


def test_a_lost_pointer_is_rebuilt_from_the_moves(registry: Registry) -> None:
    registry.publish("flights", files)
    promote(registry, 1, expect=None)
    Path(registry.url, "models/flights/aliases.json").unlink()
    assert registry.aliases("flights").champion == 1


def test_a_spoilt_pointer_is_named(registry: Registry) -> None:
    registry.publish("flights", files)
    promote(registry, 1, expect=None)
    Path(registry.url, "models/flights/aliases.json").write_text("{")
    with pytest.raises(RegistryError, match=r"aliases\.json cannot be read .* delete it, it is rebuilt from the moves"):
        registry.aliases("flights")


GARBAGE = ["", "{", "null", "[]", "5", '{"model.json": 5}', '{"generation": "first"}', "\x00"]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_spoilt_move_is_named(registry: Registry, content: str) -> None:
    registry.publish("flights", files)
    promote(registry, 1, expect=None)
    Path(registry.url, "models/flights/moves/00000001.json").write_text(content)
    with pytest.raises(RegistryError, match=r"moves/00000001\.json cannot be read .* restore it; the moves before it"):
        registry.history("flights")


@pytest.mark.parametrize("content", GARBAGE)
def test_a_spoilt_manifest_is_named(registry: Registry, content: str) -> None:
    registry.publish("flights", files)
    Path(registry.url, "models/flights/versions/1/manifest.json").write_text(content)
    with pytest.raises(CorruptVersion, match=r"versions/1/manifest\.json cannot be read .* promote another version of 'flights'"):
        registry.read("flights", 1)


def test_an_object_store_keeps_the_same_rules() -> None:
    registry = Registry("memory://perennial-test")
    assert registry.publish("flights", files) == 1
    promote(registry, 1, expect=None)
    assert registry.read("flights", 1) == files(1)
    assert registry.aliases("flights").champion == 1
    with pytest.raises(AliasConflict):
        promote(registry, 1, expect=None)
