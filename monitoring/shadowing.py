"""Shadowing: champion, newest challenger and predecessor score the same labelled rows of a window; what they lost is booked.

A challenger answers no client. When a window is over, the archived inputs give it the questions that the champion was asked,
so its scores cost the service nothing. A row that either of two models was trained on is compared by neither.

A window is booked when it closes, if by then enough of its rows have labels. One whose labels have not come waits, and is looked
at again at each later close; a label that comes when its window has been booked is learnt from and changes no entry.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import polars as pl

from monitoring.avoidable_loss import MIN_BLOCKS, block_sums, day_blocks, excess_loss
from monitoring.champion_account import PROBATION, ChampionAccount, PairedLoss
from monitoring.measurement import loss_metric
from monitoring.window import Window
from perennial.arrays import Floats
from perennial.errors import PerennialError
from perennial.log_columns import EVENT_TIME, LABEL
from perennial.metrics import row_losses
from perennial.model import Model
from perennial.model_card import ModelCard
from perennial.registry import CHAMPION, REQUEST, Move, Registry
from perennial.spec import ModelSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shadows:
    """The versions that a champion is compared with. `rows` gives those of a window that have the champion's input contract.

    `card` is None for a version that cannot be read or has another input contract, `load` for one that cannot be loaded.
    """

    registry: Registry
    champion: Model
    rows: Callable[[Window], pl.DataFrame]
    card: Callable[[int], ModelCard | None]
    load: Callable[[int], Model | None]

    @cached_property
    def _champion_moves(self) -> tuple[Move, ...]:
        """The moves of the alias, newest first, read once: each is a file."""
        return tuple(move for move in self.registry.moves(self.champion.card.name) if move.alias == CHAMPION)

    def challenger(self, window: Window) -> Model | None:
        """The newest challenger that knows nothing of the second half of the window."""
        middle = window.start + (window.end - window.start) / 2
        found = (self.load(card.version) for card in self.challengers() if card.until <= middle)
        return next((model for model in found if model is not None), None)

    def challengers(self) -> list[ModelCard]:
        """Versions newer than the champion that have never been champion, the newest first: one rolled back is none."""
        name, standing = self.champion.card.name, self.champion.card.version
        served = {move.version for move in self._champion_moves}
        newer = [version for version in self.registry.versions(name) if version > standing and version not in served]
        return [card for version in reversed(newer) if (card := self.card(version)) is not None]

    def predecessor(self) -> Model | None:
        """The older version that the champion replaced; None after a rollback, and for the first champion."""
        standing = self.champion.card.version
        before = next((move.previous for move in self._champion_moves if move.version == standing), None)
        return self.load(before) if before is not None and before < standing and self.card(before) is not None else None

    def roll_back(self, version: int, reason: str, now: datetime, event_id: str | None = None) -> None:
        """Make an earlier version champion again; raises AliasConflict where another promoter has moved the alias."""
        name, standing = self.champion.card.name, self.champion.card.version
        evidence = {REQUEST: event_id} if event_id else {}
        self.registry.roll_back(name, version, expect=standing, reason=f"rolled back: {reason}", now=now, evidence=evidence)

    def promised(self) -> float | None:
        """The relative change of the loss by which the gate let the champion serve; None where nothing was compared."""
        return next((move.evidence.get("promised") for move in self._champion_moves), None)

    def newest_until(self) -> datetime:
        """The newest training row of the champion and its challengers."""
        return max(card.until for card in (self.champion.card, *self.challengers()))


def book(account: ChampionAccount, window: Window | None, shadows: Shadows, spec: ModelSpec) -> ChampionAccount:
    """The account with the closed window, unless that is None, and with those that waited for their labels until now."""
    challengers, predecessors, waiting = list(account.challengers), list(account.predecessor), []
    for one in (*account.waiting, *([window] if window else [])):
        rows = shadows.rows(one)
        if rows[LABEL].count() < _enough(rows, spec):
            waiting.append(one)
            continue
        challengers += _compared(one, rows, shadows.champion, shadows.challenger(one), spec)
        if len(predecessors) < PROBATION:
            predecessors += _compared(one, rows, shadows.champion, shadows.predecessor(), spec)
    kept = waiting[-spec.policy.unlabelled_windows - 1 :]
    return ChampionAccount(
        champion=account.champion, challengers=tuple(challengers), predecessor=tuple(predecessors), waiting=tuple(kept)
    )


def compare(window: Window, rows: pl.DataFrame, champion: Model, other: Model, spec: ModelSpec) -> PairedLoss | None:
    """Both models on the labelled rows that are newer than both trainings; None where these are too few."""
    since, metric = max(champion.card.until, other.card.until), loss_metric(spec)
    known = rows.filter(pl.col(LABEL).is_not_null(), pl.col(EVENT_TIME) > since).sort(EVENT_TIME)
    if known.height < _enough(rows, spec):
        return None
    ours, theirs = (_losses(model, known, metric) for model in (champion, other))
    blocks = day_blocks(known[EVENT_TIME].to_numpy())
    difference = excess_loss(block_sums(ours, blocks), block_sums(theirs, blocks), metric)
    if difference is None:
        return None
    means = (math.sqrt(loss.mean()) if metric == "rmse" else float(loss.mean()) for loss in (ours, theirs))
    champion_loss, other_loss = means
    return PairedLoss(
        window=window,
        version=other.card.version,
        rows=known.height,
        champion_loss=champion_loss,
        other_loss=other_loss,
        difference=difference,
    )


def _compared(window: Window, rows: pl.DataFrame, champion: Model, other: Model | None, spec: ModelSpec) -> list[PairedLoss]:
    if other is None:
        return []
    try:
        found = compare(window, rows, champion, other, spec)
    except PerennialError as error:  # such as a function of the user's that is gone: no other version holds a window up
        log.warning("version %d cannot be compared on %s: %s", other.card.version, window, error)
        return []
    return [] if found is None else [found]


def _enough(rows: pl.DataFrame, spec: ModelSpec) -> float:
    """Labelled rows that a window must have to be booked."""
    return max(MIN_BLOCKS, spec.window.label_share * rows.height)


def _losses(model: Model, rows: pl.DataFrame, metric: str) -> Floats:
    return row_losses(model.card.task, model.label_codec.encode_column(rows[LABEL]), model.predict_frame(rows), metric)
