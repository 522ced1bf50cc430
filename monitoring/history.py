"""History: everything that happened to a model, in the order in which it happened, read from what was written down meanwhile.

Trainings are the cards of the versions, windows are their results, promotions and refusals are moves of aliases, and how far each
decision came is the decision ledger. Nothing is kept for this alone, so the history is whole however a run ended.
It costs reading every card, move, decision and window result: a millisecond each on a local disk.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from monitoring.ledger import Ledger, LedgerEntry
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import APPROVAL, CHAMPION, CONTRACT, REJECTED, Move, Registry

HistoryKind = Literal[
    "window", "decision", "declined", "failed", "training", "promotion", "approval due", "refusal", "rollback", "contract"
]

ORDER: tuple[HistoryKind, ...] = (
    "window",
    "decision",
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
    flow_run: str | None = Field(None, description="the newest Prefect run that worked on it")


def model_history(home: Path, registry: Registry, name: str) -> tuple[HistoryEntry, ...]:
    """Every entry of a model, oldest first; `home` is the model's own. Raises RegistryError, ArchiveError, NewerFormat."""
    results = load_results(home)
    entries = [
        *map(_window_entry, results),
        *(_decision_entry(entry, results) for entry in Ledger(home).entries()),
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


def _decision_entry(entry: LedgerEntry, results: tuple[WindowResult, ...]) -> HistoryEntry:
    """How far a decision has come; the window that led to it says which champion it is about, where the ledger does not."""
    step, request = entry.steps[-1], entry.request
    about = next((result for result in results if result.decision.event_id == entry.event_id), None)
    told = f"{request.cause}: {request.reason}" if request else ""
    return HistoryEntry(
        at=step.at,
        kind=step.stage if step.stage == "declined" or step.stage == "failed" else "decision",
        version=request.version if request else about.version if about else None,
        reason="; ".join(text for text in (step.reason, told, _tries(entry)) if text),
        window=request.window if request else about.window if about else None,
        decision="" if step.stage in ("declined", "failed") else step.stage,
        event_id=entry.event_id,
        flow_run=entry.flow_run,
    )


def _tries(entry: LedgerEntry) -> str:
    """How often it was sent, and how often its run died, where that is worth a word."""
    sent, died = entry.count("sent"), entry.count("died")
    return "; ".join([*([f"sent {sent} times"] if sent > 1 else []), *([f"{died} runs died"] if died else [])])


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
