"""History: everything that happened to a model, in the order in which it happened, read from what was written down meanwhile.

Trainings are the cards of the versions, windows are their results, promotions and refusals are moves of aliases, and what a
retraining declined or failed at is its receipt. Nothing is kept for this alone, so the history is whole however a run ended.
It costs reading every card, move and window result: a millisecond each on a local disk.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from monitoring.receipts import load_receipts
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import APPROVAL, CHAMPION, CONTRACT, REJECTED, Move, Registry

HistoryKind = Literal["window", "declined", "failed", "training", "promotion", "approval due", "refusal", "rollback", "contract"]

ORDER: tuple[HistoryKind, ...] = (
    "window",
    "declined",
    "failed",
    "training",
    "contract",
    "approval due",
    "refusal",
    "promotion",
    "rollback",
)
"""Of entries of the same moment: what a window asks for comes after it, and a verdict after its training."""

MOVES: dict[str, HistoryKind] = {
    CHAMPION: "promotion",
    APPROVAL: "approval due",
    REJECTED: "refusal",
    CONTRACT: "contract",
}
"""What a move of an alias is called; that of the challenger says no more than its training does."""


class HistoryEntry(FrozenModel):
    """One thing that happened to a model, in wall time; `window` is the stretch of event time that it is about."""

    at: AwareDatetime
    kind: HistoryKind
    version: int | None
    reason: str
    window: Window | None = None
    decision: str = Field("", description="of a window: what it led to")
    by_person: bool = False
    event_id: str | None = Field(None, description="of the Prefect event that it sent, or that it answers")


def model_history(home: Path, registry: Registry, name: str) -> tuple[HistoryEntry, ...]:
    """Every entry of a model, oldest first; `home` is the model's own. Raises RegistryError, ArchiveError, NewerFormat."""
    results = load_results(home)
    entries = [
        *map(_window_entry, results),
        *_receipt_entries(home, results),
        *(_training_entry(load_card(registry, name, version)) for version in registry.versions(name)),
        *(_move_entry(move) for move in registry.history(name) if move.alias in MOVES),
    ]
    return tuple(sorted(entries, key=lambda entry: (entry.at, ORDER.index(entry.kind))))


class Promise(FrozenModel):
    """What a promotion promised of the loss and what came true beside its predecessor: relative changes, negative is better."""

    version: int
    promised: float | None
    turned_out: float | None


def promises(moves: Iterable[Move], results: Iterable[WindowResult]) -> tuple[Promise, ...]:
    """One for each version that was promoted, in the order of the moves; None where nothing was compared, or not yet."""
    accounts = (result.account for result in results)
    truth = {account.champion: account.turned_out for account in accounts if account and account.turned_out is not None}
    promoted = {move.version: move.evidence.get("promised") for move in moves if move.alias == CHAMPION and not move.rollback}
    found = ((version, promised) for version, promised in promoted.items() if version is not None)
    return tuple(Promise(version=version, promised=promised, turned_out=truth.get(version)) for version, promised in found)


def _window_entry(result: WindowResult) -> HistoryEntry:
    decision = result.decision
    return HistoryEntry(
        at=result.closed_at,
        kind="window",
        version=result.version,
        reason=decision.reason,
        window=result.window,
        decision=decision.kind,
        event_id=decision.event_id,
    )


def _receipt_entries(home: Path, results: tuple[WindowResult, ...]) -> Iterator[HistoryEntry]:
    """What became of requests that led to no version; the window that sent one says which champion it was about."""
    asked = {result.decision.event_id: result for result in results}
    for receipt in load_receipts(home):
        if receipt.outcome == "declined" or receipt.outcome == "failed":
            about = asked.get(receipt.event_id)
            yield HistoryEntry(
                at=receipt.at,
                kind=receipt.outcome,
                version=about.version if about else None,
                reason=receipt.reason,
                window=about.window if about else None,
                event_id=receipt.event_id,
            )


def _training_entry(card: ModelCard) -> HistoryEntry:
    learnt = f"learnt {card.data.rows:,} rows until {card.until:%Y-%m-%d %H:%M}"
    detail = f": {card.cause.detail}" if card.cause.detail else ""
    return HistoryEntry(
        at=card.trained_at,
        kind="training",
        version=card.version,
        reason=f"{learnt}, because: {card.cause.kind}{detail}",
        by_person=card.cause.kind in ("initial", "manual"),
        event_id=card.cause.event_id,
    )


def _move_entry(move: Move) -> HistoryEntry:
    after = f" (was version {move.previous})" if move.alias == CHAMPION and move.previous is not None else ""
    return HistoryEntry(
        at=move.at,
        kind="rollback" if move.rollback else MOVES[move.alias],
        version=move.version,
        reason=f"{move.reason}{after}",
        by_person=move.by_person,
    )
