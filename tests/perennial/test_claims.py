"""Claims to train a model: a newer one makes every older token stale, whatever the older run was about to write."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.atomic_files import create_exclusively
from perennial.errors import AliasConflict, StaleToken
from perennial.registry import CHAMPION, Registry

NOW = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    Registry(str(tmp_path)).publish("flights", lambda _: {"model.json": b"{}"})
    return str(tmp_path)


def claim(url: str, expect: int, run: str = "run") -> Registry:
    """The registry as a run sees it that has claimed the model."""
    return Registry(url, Registry(url).claim("flights", run, expect=expect, reason="it trains", now=NOW))


def promote(registry: Registry, expect: int | None = None) -> None:
    registry.promote("flights", CHAMPION, 1, expect=expect, reason="test", now=NOW)


def test_the_newest_claim_publishes_and_promotes(url: str) -> None:
    registry = claim(url, 0)
    assert registry.publish("flights", lambda _: {"model.json": b"{}"}) == 2
    promote(registry)
    aliases = registry.aliases("flights")
    assert (aliases.positions, aliases.token) == ({CHAMPION: 1}, 1)


def test_an_older_claim_writes_nothing_any_more(url: str) -> None:
    older, newer = claim(url, 0), claim(url, 1)
    for write in (promote, lambda one: one.publish("flights", lambda _: {"model.json": b"{}"})):
        with pytest.raises(StaleToken, match="claim 1 to train 'flights' was succeeded by claim 2"):
            write(older)
    assert newer.versions("flights") == (1,)
    assert newer.aliases("flights").champion is None
    promote(newer)


def test_a_person_moves_aliases_without_a_claim_and_makes_none_stale(url: str) -> None:
    registry = claim(url, 0)
    promote(Registry(url))
    registry.require_token("flights")
    assert registry.aliases("flights").token == 1


def test_no_claim_comes_between_the_look_at_the_token_and_the_move(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is paused right before it creates its move, when it has looked already; then another run claims the model."""
    registry = claim(url, 0)

    def paused(fs: Any, path: str, content: bytes) -> bool:
        monkeypatch.setattr("perennial.registry.create_exclusively", create_exclusively)
        claim(url, 1, "another")
        return create_exclusively(fs, path, content)

    monkeypatch.setattr("perennial.registry.create_exclusively", paused)
    with pytest.raises(AliasConflict):
        promote(registry)
    assert Registry(url).aliases("flights").champion is None


def test_of_runs_that_claim_at_once_one_is_first(url: str) -> None:
    def claimed(number: int) -> bool:
        try:
            return bool(claim(url, 0, f"run-{number}"))
        except AliasConflict:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claimed, range(16))) == 1
    assert Registry(url).aliases("flights").token == 1


def test_aliases_that_were_lost_are_rebuilt_with_the_token(url: str) -> None:
    registry = claim(url, 0)
    promote(registry)
    Path(url, "models", "flights", "aliases.json").unlink()
    assert registry.aliases("flights").token == 1
    registry.require_token("flights")
