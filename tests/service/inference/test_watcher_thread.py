"""The watcher thread: one for all models; what is in memory is what was asked lately."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.registry import Registry
from service.inference.model_watcher import ModelWatcher
from service.inference.predictor import Predictor
from service.inference.served_model import ServedModel
from service.inference.watcher_thread import FEW, WatcherThread
from tests.support import models
from tests.support.waiting import wait_until

START = datetime(2024, 1, 1, tzinfo=UTC)


class Told:
    """In the place of the metrics, which have tests of their own."""

    def swapped(self, version: int) -> None: ...

    def refused(self) -> None: ...


def served(registry: Registry, count: int) -> list[ServedModel]:
    """Models that differ by name only, each with a champion."""
    quiet: Any = Told()
    found = []
    for number in range(count):
        name = f"model-{number}"
        models.publish_small(registry, models.named_model(name))
        watcher, predictor = ModelWatcher(registry, name, Path(), metrics=quiet), Predictor(10, quiet, quiet)
        found.append(ServedModel(models.named_model(name).card.spec, watcher, quiet, predictor))
    return found


@contextmanager
def watching(given: Sequence[ServedModel], most: int) -> Iterator[WatcherThread]:
    thread = WatcherThread(given, timedelta(seconds=0.01), most)
    thread.start()
    yield thread
    thread.stop()


def loaded(given: Sequence[ServedModel]) -> list[str]:
    return [one.name for one in given if one.watcher.live is not None]


def test_few_models_are_loaded_at_the_start_and_followed(registry: Registry) -> None:
    given = served(registry, 2)
    with watching(given, 10):
        assert loaded(given) == ["model-0", "model-1"]
        models.publish_small(registry, models.named_model("model-1", seed=1))
        wait_until(lambda: given[1].watcher.serveable == 2, 20, "the promotion to be live")
        assert given[0].watcher.serveable == 1


@pytest.mark.parametrize(("count", "most"), [(FEW + 1, 100), (3, 2)], ids=["many", "more than may be in memory"])
def test_many_models_are_loaded_when_they_are_asked(registry: Registry, count: int, most: int) -> None:
    given = served(registry, count)
    with watching(given, most) as thread:
        assert loaded(given) == []
        assert given[1].watcher.serveable == 1, "it would answer"
        thread.load(given[1]).result(20)
        assert loaded(given) == ["model-1"]


def test_what_was_asked_longest_ago_is_unloaded_and_comes_back(registry: Registry) -> None:
    given = served(registry, 3)
    with watching(given, 2) as thread:
        for number in (0, 1):
            thread.load(given[number]).result(20)
        given[1].predictor.used_at, given[0].predictor.used_at = START, START + timedelta(seconds=1)
        thread.load(given[2]).result(20)
        assert loaded(given) == ["model-0", "model-2"]
        models.publish_small(registry, models.named_model("model-1", seed=1))
        wait_until(lambda: given[1].watcher.champion == 2, 20, "the promotion of what is not in memory to be seen")
        given[0].predictor.used_at = given[2].predictor.used_at = START + timedelta(seconds=2)
        thread.load(given[1]).result(20)
        assert given[1].watcher.require_live().version == 2


def test_a_version_that_cannot_be_loaded_is_refused_and_the_next_is_loaded(registry: Registry) -> None:
    given = served(registry, FEW + 1)
    (Path(registry.url) / "models/model-0/versions/1/model.json").write_text("{")
    with watching(given, 100) as thread:
        first, second = thread.load(given[0]), thread.load(given[1])
        first.result(20)
        second.result(20)
        assert "is refused" in str(given[0].watcher.refusal)
        assert loaded(given) == ["model-1"]
