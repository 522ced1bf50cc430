"""What was rolled back does not return without a person, and what waits for one is known until the champion changes."""

from datetime import UTC, datetime, timedelta

import pytest

from perennial.errors import AliasConflict, VersionWithdrawn
from perennial.registry import APPROVAL, CHAMPION, Registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def served(registry: Registry) -> Registry:
    """Versions 1 to 4, of which 1, 2 and 3 became champion one after the other."""
    for _ in range(4):
        registry.publish("flights", lambda number: {"model.json": str(number).encode()})
    for version in (1, 2, 3):
        promote(registry, version)
    return registry


def promote(registry: Registry, version: int, alias: str = CHAMPION, *, by_person: bool = False) -> None:
    standing = registry.aliases("flights").positions.get(alias)
    registry.promote("flights", alias, version, expect=standing, reason="better", now=NOW, by_person=by_person)


def roll_back(registry: Registry, version: int, *, by_person: bool = False) -> None:
    standing = registry.aliases("flights").champion
    assert standing is not None
    registry.roll_back("flights", version, expect=standing, reason="it got worse", now=NOW, by_person=by_person)


def test_a_rolled_back_version_is_refused_with_the_reason_and_the_way_back(served: Registry) -> None:
    roll_back(served, 2)
    move = served.last_move("flights", CHAMPION)
    assert move is not None
    assert (move.rollback, move.version, move.previous, move.by_person) == (True, 2, 3, False)
    with pytest.raises(VersionWithdrawn, match=r"was rolled back on 2026-01-01 00:00 \(it got worse\) .*rollback SPEC --to 3"):
        promote(served, 3)
    assert served.aliases("flights").champion == 2
    promote(served, 4)
    assert served.aliases("flights").champion == 4, "another version may"


@pytest.mark.parametrize("by_person", [True, False])
def test_whoever_rolled_it_back_a_person_may_bring_it_back(served: Registry, by_person: bool) -> None:
    roll_back(served, 2, by_person=by_person)
    assert list(served.withdrawn("flights")) == [3]
    promote(served, 3, by_person=True)
    assert served.withdrawn("flights") == {}
    roll_back(served, 2)
    assert list(served.withdrawn("flights")) == [3], "once more"


def test_taking_a_rollback_back_withdraws_nothing(served: Registry) -> None:
    roll_back(served, 2, by_person=True)
    roll_back(served, 3, by_person=True)
    assert served.withdrawn("flights") == {}


def test_a_rollback_is_a_compare_and_set(served: Registry) -> None:
    with pytest.raises(AliasConflict):
        served.roll_back("flights", 1, expect=2, reason="late", now=NOW)


def test_a_version_waits_for_a_person_until_the_champion_changes(served: Registry) -> None:
    assert served.awaiting_approval("flights") is None
    promote(served, 4, APPROVAL)
    waiting = served.awaiting_approval("flights")
    assert waiting is not None
    assert waiting.version == 4
    roll_back(served, 2)
    assert served.awaiting_approval("flights") is None


def test_the_evidence_of_a_promotion_is_kept_with_its_move(served: Registry) -> None:
    now = NOW + timedelta(days=1)
    served.promote("flights", CHAMPION, 4, expect=3, reason="better", now=now, evidence={"promised": -0.04})
    move = served.last_move("flights", CHAMPION)
    assert move is not None
    assert move.evidence == {"promised": -0.04}
