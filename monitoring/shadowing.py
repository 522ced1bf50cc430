"""Shadowing: champion, newest challenger (or a probe) and predecessor score the same labelled rows of a window, which is booked.

A challenger answers no client. When a window is over, the archived inputs give it the questions that the champion was asked,
so its scores cost the service nothing. A row that either of two models was trained on is compared by neither.

A window is booked when it closes, if by then enough of its rows have labels. One whose labels have not come waits, and is looked
at again at each later close; a label that comes when its window has been booked is learnt from and changes no entry.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial

import polars as pl

from monitoring.avoidable_loss import MIN_BLOCKS, block_sums, day_blocks, excess_loss, mean_loss
from monitoring.champion_account import PROBATION, ChampionAccount, PairedLoss
from monitoring.measurement import loss_metric
from monitoring.probe import ProbeRows, probe, windows_before
from monitoring.window import Window
from perennial.arrays import Floats
from perennial.errors import PerennialError
from perennial.learner import Objective
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
        challengers += _compared(one, partial(_newest, one, rows, shadows, spec))
        if len(predecessors) < PROBATION:
            predecessors += _compared(one, partial(_beside, shadows.predecessor(), one, rows, shadows, spec))
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
    return PairedLoss(
        window=window,
        version=other.card.version,
        rows=known.height,
        champion_loss=mean_loss(ours, metric),
        other_loss=mean_loss(theirs, metric),
        difference=difference,
    )


def compare_probe(window: Window, rows: pl.DataFrame, shadows: Shadows, spec: ModelSpec) -> PairedLoss | None:
    """Champion and probe on the labelled rows that are newer than the champion's training; None where these are too few."""
    champion, since = shadows.champion, shadows.champion.card.until
    judged = probe_rows(champion, rows)
    if len(judged) < _enough(rows, spec):
        return None
    card, earlier = champion.card, (probe_rows(champion, shadows.rows(one)) for one in windows_before(window, since))
    objective = Objective(card.task, card.spec.objective_metric, len(card.classes), seed=0, threads=1)
    found = probe(objective, loss_metric(spec), card.features, judged, earlier)
    if found is None:
        return None
    return PairedLoss(
        window=window,
        version=card.version,
        probe=True,
        rows=found.rows,
        champion_loss=found.champion_loss,
        other_loss=found.probe_loss,
        difference=found.difference,
    )


def probe_rows(champion: Model, rows: pl.DataFrame) -> ProbeRows:
    """The labelled rows that are newer than the champion's training, as a probe takes them."""
    known = rows.filter(pl.col(LABEL).is_not_null(), pl.col(EVENT_TIME) > champion.card.until).sort(EVENT_TIME)
    matrix, labels = champion.compiled.matrix(known), champion.label_codec.encode_column(known[LABEL])
    times = known[EVENT_TIME].dt.replace_time_zone(None).to_numpy()
    return ProbeRows(matrix, labels, times, champion.predict_matrix(matrix))


def _newest(window: Window, rows: pl.DataFrame, shadows: Shadows, spec: ModelSpec) -> PairedLoss | None:
    """The champion beside what the spec takes for the newest knowledge."""
    if spec.policy.evidence == "probe":
        return compare_probe(window, rows, shadows, spec)
    return _beside(shadows.challenger(window), window, rows, shadows, spec)


def _beside(other: Model | None, window: Window, rows: pl.DataFrame, shadows: Shadows, spec: ModelSpec) -> PairedLoss | None:
    return None if other is None else compare(window, rows, shadows.champion, other, spec)


def _compared(window: Window, comparison: Callable[[], PairedLoss | None]) -> list[PairedLoss]:
    try:
        found = comparison()
    except PerennialError as error:  # such as a function of the user's that is gone: no other model holds a window up
        log.warning("the champion cannot be compared on %s: %s", window, error)
        return []
    return [] if found is None else [found]


def _enough(rows: pl.DataFrame, spec: ModelSpec) -> float:
    """Labelled rows that a window must have to be booked."""
    return max(MIN_BLOCKS, spec.window.label_share * rows.height)


def _losses(model: Model, rows: pl.DataFrame, metric: str) -> Floats:
    return row_losses(model.card.task, model.label_codec.encode_column(rows[LABEL]), model.predict_frame(rows), metric)
