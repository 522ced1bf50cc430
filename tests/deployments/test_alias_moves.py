"""Taking a promotion back, and closing the contract of earlier champions."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.alias_moves import close_contract, roll_back
from perennial.errors import VersionNotFound
from perennial.registry import CHAMPION, CONTRACT, Registry
from perennial.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def promote(settings: Settings, *versions: int) -> Registry:
    """A registry in which these versions became champion one after the other."""
    registry, current = Registry(settings.registry_url), None
    for version in versions:
        if version not in registry.versions("other"):
            registry.publish("other", lambda number: {"model.json": str(number).encode()})
        registry.promote("other", CHAMPION, version, expect=current, reason="better", now=NOW)
        current = version
    return registry


def test_the_champion_before_serves_again(spec_copy: Path, settings: Settings) -> None:
    registry = promote(settings, 1, 2, 3)
    move = roll_back(spec_copy, None, settings, NOW)
    assert (move.previous, move.version) == (3, 2)
    assert registry.aliases("other").champion == 2
    assert registry.history("other")[-1].reason == "rolled back by hand"
    assert list(registry.withdrawn("other")) == [3]


def test_a_version_can_be_named(spec_copy: Path, settings: Settings) -> None:
    registry = promote(settings, 1, 2, 3)
    roll_back(spec_copy, 1, settings, NOW)
    assert registry.aliases("other").champion == 1


def test_a_version_that_does_not_exist_is_refused(spec_copy: Path, settings: Settings) -> None:
    promote(settings, 1, 2)
    with pytest.raises(VersionNotFound, match="other has no version 7; it has 1, 2"):
        roll_back(spec_copy, 7, settings, NOW)


def test_the_first_champion_has_none_before_it(spec_copy: Path, settings: Settings) -> None:
    promote(settings, 1)
    with pytest.raises(VersionNotFound, match="first champion: name another with --to"):
        roll_back(spec_copy, None, settings, NOW)


def test_without_a_champion_there_is_nothing_to_roll_back(spec_copy: Path, settings: Settings) -> None:
    with pytest.raises(VersionNotFound, match="other has no champion yet"):
        roll_back(spec_copy, None, settings, NOW)


def test_a_contract_is_closed_at_the_champion_and_a_rollback_goes_where_it_went_before(
    spec_copy: Path, settings: Settings
) -> None:
    registry = promote(settings, 1, 2)
    assert [close_contract(spec_copy, settings, NOW) for _ in range(2)] == [2, 2]
    assert registry.aliases("other").positions == {CHAMPION: 2, CONTRACT: 2}
    assert registry.history("other")[-1].reason == "contract closed by hand"
    assert roll_back(spec_copy, None, settings, NOW).version == 1


def test_without_a_champion_there_is_no_contract_to_close(spec_copy: Path, settings: Settings) -> None:
    with pytest.raises(VersionNotFound, match="has no champion yet: run `perennial train"):
        close_contract(spec_copy, settings, NOW)
