"""The watcher: it follows the alias, and never serves what cannot be trusted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perennial.model import Model, to_files
from perennial.registry import CHALLENGER, CHAMPION, Registry
from service.inference.model_watcher import ModelWatcher
from tests.support import models
from tests.support.sentry_receiver import SentryReceiver

NAME = "small"


class Told:
    """What a watcher told the metrics."""

    def __init__(self) -> None:
        self.swaps: list[int] = []
        self.refusals = 0

    def swapped(self, version: int) -> None:
        self.swaps.append(version)

    def refused(self) -> None:
        self.refusals += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watcher(registry: Registry, told: Told) -> ModelWatcher:
    return ModelWatcher(registry, NAME, Path(), metrics=told)


def promote(registry: Registry, version: int) -> None:
    now = models.small_model().card.trained_at
    registry.promote(NAME, CHAMPION, version, expect=registry.aliases(NAME).champion, reason="test", now=now)


def publish_files(registry: Registry, change: Callable[[dict[str, bytes]], None]) -> int:
    """Publish and promote a version whose files were changed before their digests were taken."""

    def make(number: int) -> dict[str, bytes]:
        files = dict(to_files(models.small_model(seed=1).with_version(number)))
        change(files)
        return files

    version = registry.publish(NAME, make)
    promote(registry, version)
    return version


def test_without_a_champion_nothing_is_live(watcher: ModelWatcher) -> None:
    watcher.check()
    assert watcher.live is None


def test_a_promotion_becomes_live(watcher: ModelWatcher, registry: Registry, champion: Model, told: Told) -> None:
    watcher.check()
    models.publish_small(registry, models.small_model(seed=1))
    watcher.check()
    assert watcher.live is not None
    assert watcher.live.version == 2
    assert told.swaps == [1, 2]


def test_a_rollback_takes_the_version_that_is_still_in_memory(watcher: ModelWatcher, registry: Registry, champion: Model) -> None:
    watcher.check()
    first = watcher.live
    models.publish_small(registry, models.small_model(seed=1))
    watcher.check()
    promote(registry, 1)
    watcher.check()
    assert first is not None
    assert watcher.live is not None
    assert watcher.live is first


def test_a_look_sees_every_move_and_reads_nothing_where_there_is_none(
    watcher: ModelWatcher, registry: Registry, champion: Model, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = registry.aliases
    monkeypatch.setattr(registry, "aliases", lambda name: reads.append(name) or read(name))
    for version in range(1, 5):
        watcher.look()
        assert told.swaps[-1] == version
        reads.clear()
        watcher.look()
        watcher.look()
        assert reads == []
        models.publish_small(registry, models.small_model(seed=version))


def test_a_version_whose_files_changed_is_refused_and_the_old_one_answers_on(
    watcher: ModelWatcher, registry: Registry, champion: Model, told: Told, tmp_path: Path
) -> None:
    watcher.check()
    version = models.publish_small(registry, models.small_model(seed=1), promote=False)
    booster = tmp_path / "registry" / "models" / NAME / "versions" / str(version) / "model.txt"
    booster.write_bytes(booster.read_bytes() + b" ")
    promote(registry, version)
    watcher.check()
    watcher.check()
    assert watcher.live is not None
    assert watcher.live.version == 1
    assert told.refusals == 1


def _trees_of_another_model(files: dict[str, bytes]) -> None:
    files["model.txt"] = to_files(models.small_model(seed=2))["model.txt"]


def _card_of_another_version(files: dict[str, bytes]) -> None:
    files["model.json"] = to_files(models.small_model(seed=1).with_version(77))["model.json"]


def _no_trees(files: dict[str, bytes]) -> None:
    del files["model.txt"]


def _not_a_model(files: dict[str, bytes]) -> None:
    files["model.txt"] = b"not a model"


@pytest.mark.parametrize("change", [_trees_of_another_model, _card_of_another_version, _no_trees, _not_a_model])
def test_a_version_that_is_not_what_it_says_is_refused(
    change: Callable[[dict[str, bytes]], None], watcher: ModelWatcher, registry: Registry, champion: Model, told: Told
) -> None:
    watcher.check()
    publish_files(registry, change)
    watcher.check()
    assert watcher.live is not None
    assert watcher.live.version == 1
    assert (told.swaps, told.refusals) == ([1], 1)


def test_a_good_version_after_a_bad_one_becomes_live(
    watcher: ModelWatcher, registry: Registry, champion: Model, told: Told
) -> None:
    watcher.check()
    publish_files(registry, _not_a_model)
    watcher.check()
    models.publish_small(registry, models.small_model(seed=3))
    watcher.check()
    assert told.swaps == [1, 3]


def test_a_registry_that_goes_away_leaves_the_live_version(
    watcher: ModelWatcher, registry: Registry, champion: Model, tmp_path: Path
) -> None:
    watcher.check()
    (tmp_path / "registry" / "models" / NAME / "aliases.json").write_text("{")
    watcher.check()
    assert watcher.live is not None
    assert watcher.live.version == 1


def test_a_refused_version_is_one_issue_in_sentry(
    watcher: ModelWatcher, registry: Registry, champion: Model, sentry: SentryReceiver
) -> None:
    from perennial.error_reporting import init_error_reporting
    from perennial.settings import load_settings

    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service")
    watcher.check()
    version = publish_files(registry, _not_a_model)
    watcher.check()
    watcher.check()
    (event,) = sentry.wait_for(1)
    assert event["tags"]["refused_version"] == str(version)
    assert event["fingerprint"][:2] == ["service", "version-refused"]


def test_the_challenger_is_loaded_beside_the_champion_and_needs_no_loading_to_succeed(
    registry: Registry, told: Told, tmp_path: Path
) -> None:
    watcher = ModelWatcher(registry, NAME, Path(), metrics=told, with_challenger=True)
    models.publish_small(registry, models.small_model())
    second = models.publish_small(registry, models.small_model(seed=1), promote=False)
    registry.promote(NAME, CHALLENGER, second, expect=None, reason="test", now=models.small_model().card.trained_at)
    watcher.check()
    assert watcher.live
    assert watcher.challenger
    assert (watcher.live.version, watcher.challenger.version, told.swaps) == (1, 2, [1])
    model = watcher.challenger
    promote(registry, second)
    watcher.check()
    assert watcher.live is model
    assert watcher.challenger is model
    promote(registry, 1)
    watcher.check()
    assert (watcher.live.version, watcher.challenger.version) == (1, 2)


def test_a_bad_challenger_disturbs_nobody(registry: Registry, told: Told, tmp_path: Path) -> None:
    watcher = ModelWatcher(registry, NAME, Path(), metrics=told, with_challenger=True)
    models.publish_small(registry, models.small_model())
    bad = models.publish_small(registry, models.small_model(seed=1), promote=False)
    (tmp_path / "registry" / "models" / NAME / "versions" / str(bad) / "model.txt").unlink()
    registry.promote(NAME, CHALLENGER, bad, expect=None, reason="test", now=models.small_model().card.trained_at)
    watcher.check()
    watcher.check()
    assert watcher.live
    assert (watcher.live.version, watcher.challenger, told.refusals) == (1, None, 1)
