"""The story of a model: what its files say happened to it, gathered for one page.

Window results, the decision ledger, moves of aliases and the cards of its versions go in. Nothing is asked of a server, so
the page of a model can be drawn with everything down. A page shows the newest MOST_WINDOWS windows and MOST_VERSIONS versions and
says how many windows there were before: the cost of a close does not grow with the years.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from monitoring.ledger import LedgerEntry, read_entry
from monitoring.report import report_path
from monitoring.state import WindowResult, load_results
from perennial.errors import PerennialError
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import CHAMPION, TRAINING, Move, Registry
from perennial.settings import REPORTS

MOST_WINDOWS = 260  # five years of weeks; the file has a megabyte then
MOST_VERSIONS = 60
MOST_MOVES = 240

CLOUD_API, CLOUD_UI = "https://api.prefect.cloud/api", "https://app.prefect.cloud"

Found = TypeVar("Found")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelStory:
    """What is known of a model, everything oldest first.

    `earlier` counts closed windows before the first one here, `reports` holds the windows whose report is on disk, by their keys,
    `reports_at` is where they are, seen from the page, and `prefect_ui` is the address of Prefect's pages, if there is one.
    """

    model: str
    windows: Sequence[WindowResult]
    moves: Sequence[Move] = ()
    cards: Sequence[ModelCard] = ()
    decisions: Mapping[str, LedgerEntry] = field(default_factory=dict)
    reports: frozenset[str] = frozenset()
    earlier: int = 0
    prefect_ui: str | None = None
    reports_at: str = f"{REPORTS}/"

    @property
    def champion(self) -> int | None:
        """The version that serves, as the moves have it."""
        return next((move.version for move in reversed(self.moves) if move.alias == CHAMPION), None)

    def closed_before(self, at: datetime) -> WindowResult | None:
        """The window that was closed last before a moment of wall time: how far event time had come by then."""
        return next((one for one in reversed(self.windows) if one.closed_at <= at), None)

    def versions_asked_by(self, event_id: str | None) -> tuple[int, ...]:
        """The versions that an event led to a training of."""
        return tuple(card.version for card in self.cards if event_id and card.cause.event_id == event_id)


def read_story(home: Path, registry: Registry, name: str, prefect_api: str | None = None) -> ModelStory:
    """Read everything below the model's `home` and in the registry; what cannot be read is left out with a warning.

    Raises ArchiveError or NewerFormat where a window's result cannot be read.
    """
    windows = load_results(home, newest=MOST_WINDOWS)
    asked = [one.decision.event_id for one in windows if one.decision.event_id]
    found = {id_: entry for id_ in asked if (entry := read_entry(home, id_)) is not None}
    return ModelStory(
        model=name,
        windows=windows,
        moves=_readable(lambda: tuple(islice(_verdicts(registry, name), MOST_MOVES))[::-1]),
        cards=_cards(registry, name),
        decisions=found,
        reports=frozenset(one.window.key for one in windows if report_path(home, one.window).exists()),
        earlier=sum(1 for _ in (home / "windows").glob("*.json")) - len(windows),
        prefect_ui=prefect_ui(prefect_api),
    )


def _verdicts(registry: Registry, name: str) -> Iterator[Move]:
    """The moves, newest first, without the claims to train."""
    return (move for move in registry.moves(name) if move.alias != TRAINING)


def prefect_ui(api: str | None) -> str | None:
    """Where people see what an API of Prefect holds; None without an API."""
    if api is None or not api.startswith(CLOUD_API):
        return api and api.rstrip("/").removesuffix("/api")
    return api.rstrip("/").replace(CLOUD_API, CLOUD_UI).replace("/accounts/", "/account/").replace("/workspaces/", "/workspace/")


def _cards(registry: Registry, name: str) -> tuple[ModelCard, ...]:
    versions = _readable(lambda: registry.versions(name))[-MOST_VERSIONS:]
    return tuple(card for version in versions for card in _readable(partial(_card, registry, name, version)))


def _card(registry: Registry, name: str, version: int) -> tuple[ModelCard, ...]:
    return (load_card(registry, name, version),)


def _readable(read: Callable[[], tuple[Found, ...]]) -> tuple[Found, ...]:
    try:
        return read()
    except PerennialError as error:
        log.warning("the page does without it: %s", error)
        return ()
