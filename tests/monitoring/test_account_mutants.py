"""The ways in which an account goes wrong without a word: each is planted here, and turns the checks below red."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monitoring import avoidable_loss, policy, shadowing, state
from monitoring.champion_account import ChampionAccount
from perennial.registry import CHAMPION, Registry
from tests.monitoring.test_policy import SPEC, account, findings, requested, values, week_before
from tests.monitoring.test_policy import START as MONDAY
from tests.monitoring.test_shadowing import TURN, archived, new, old, session, turned, week
from tests.monitoring.test_shadowing import shadows as shadows_of
from tests.support.models import publish_small, small_spec, train_small
from tests.support.mutants import mutant

BOOKED = "excess_loss(block_sums(ours, blocks), block_sums(theirs, blocks), metric)"
SINCE = "max(champion.card.until, other.card.until)"
PAYS = "self.avoidable + self.expected >= cost and self.avoidable >= z * self.error"
GONE = "account.never_labelled or account.unlabelled > spec.policy.unlabelled_windows"
WAITS = "kind in PROMOTIONS and last.request.cause not in PROMOTIONS"


@dataclass(frozen=True)
class Parts:
    """The modules that keep the account; in a mutant one of them is another."""

    losses: Any = avoidable_loss
    shadowing: Any = shadowing
    policy: Any = policy
    state: Any = state


MUTANTS: dict[str, tuple[str, ModuleType, str, str]] = {
    "champion and challenger are swapped": (
        "shadowing",
        shadowing,
        BOOKED,
        "excess_loss(block_sums(theirs, blocks), block_sums(ours, blocks), metric)",
    ),
    "the champion is scored twice": (
        "shadowing",
        shadowing,
        "for model in (champion, other)",
        "for model in (champion, champion)",
    ),
    "rows that the champion has learnt count": ("shadowing", shadowing, SINCE, "other.card.until"),
    "rows that the challenger has learnt count": ("shadowing", shadowing, SINCE, "champion.card.until"),
    "a version that was champion shadows": ("shadowing", shadowing, " and version not in served", ""),
    "what was lost to challengers is booked as a gain": (
        "losses",
        avoidable_loss,
        PAYS,
        PAYS.replace("self.avoidable +", "-self.avoidable +"),
    ),
    "the cost is ignored": ("losses", avoidable_loss, PAYS, "self.avoidable >= z * self.error"),
    "the error is ignored": ("losses", avoidable_loss, PAYS, "self.avoidable + self.expected >= cost"),
    "the next window is ignored": ("losses", avoidable_loss, PAYS, "self.avoidable >= cost and self.avoidable >= z * self.error"),
    "an account outlives its champion": ("state", state, "self.account.champion == champion", "self.account.champion"),
    "drift promotes although labels come": ("policy", policy, GONE, "True"),
    "drift never promotes": ("policy", policy, GONE, "False"),
    "a better predecessor stays away": ("policy", policy, "chance < LEAST_CHAMPION_BETTER", "chance > 1 - LEAST_CHAMPION_BETTER"),
    "a training delays a promotion": ("policy", policy, WAITS, "False"),
    "silent alarms end the comparison": ("policy", policy, "windows >= wait", "windows > 2 * wait"),
}


def check(parts: Parts, directory: Path) -> None:
    """What must be compared, summed, decided and forgotten."""
    check_comparison(parts.shadowing)
    check_shadows(parts.shadowing, directory)
    check_account(parts.losses)
    check_decision(parts.policy)
    kept = ChampionAccount(champion=1, challengers=(account(0.5).newest,))
    assert parts.state.MonitorState(account=kept).account_of(2) == ChampionAccount(champion=2)
    assert parts.state.MonitorState(account=kept).account_of(1) == kept


def check_comparison(module: Any) -> None:
    frame = turned(1, start=3)
    rows, half = archived(frame, old()), train_small(frame.head(frame.height // 2))
    assert module.compare(week(3), rows, old(), new(), small_spec()).difference.excess > 0.5
    assert module.compare(week(3), rows, new(), old(), small_spec()).difference.excess < 0
    assert module.compare(week(3), rows, old(), half, small_spec()).rows == frame.height // 2
    assert module.compare(week(3), rows, half, old(), small_spec()).rows == frame.height // 2


def check_shadows(module: Any, directory: Path) -> None:
    registry = Registry(str(directory / "registry"))
    for model in (old(), new()):
        publish_small(registry, model)
    registry.promote("small", CHAMPION, 1, expect=2, reason="by the test", now=TURN, by_person=True)
    found = shadows_of(session(directory, registry, turned(4)), week(3))
    assert module.Shadows(**vars(found)).challengers() == []


def check_account(module: Any) -> None:
    def due(*excesses: float, error: float = 0.01) -> bool:
        entries = tuple(module.ExcessLoss(excess=excess, error=error) for excess in excesses)
        return bool(module.Account(entries=entries).promotion_due(cost=0.2, z=1))

    assert due(0.15)
    assert not due(0.05)
    assert not due(-0.5)
    assert not due(0.15, error=0.3)


def check_decision(module: Any) -> None:
    def kind(*excesses: float, drift: float = 0.05, last: Any = None, **stated: Any) -> str:
        found = findings(**values(drift=drift))
        return str(module.decide(found, last, SPEC, account=account(*excesses, **stated)).kind)

    assert kind(0.5) == kind(0.5, last=requested(week_before(MONDAY))) == "promotion"
    assert kind(0.5, last=requested(week_before(MONDAY), "promotion")) == "none"
    assert kind(-0.5) == kind(-0.5, regression=-0.5) == "none"
    assert kind(-0.5, drift=0.2) == "drift"
    assert kind(drift=0.2, unlabelled=5) == kind(drift=0.2, never_labelled=True) == "promotion"
    assert kind(regression=0.5) == "rollback"
    assert kind(newest_age=timedelta(weeks=4)) == "challenger"


def test_the_account_passes_its_checks(tmp_path: Path) -> None:
    check(Parts(), tmp_path)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_does_not(name: str, tmp_path: Path) -> None:
    part, module, before, after = MUTANTS[name]
    with pytest.raises(AssertionError):
        check(replace(Parts(), **{part: mutant(module, before, after)}), tmp_path)
