"""Settling: what became of a decision, by what the registry has, when the run that carried it out could not write it down.

A run may be killed after each of its writes. The verdict's move names the event that it answers, and a version's card names the
event that it was trained for; so what was done is found again, and not done twice, nor taken for nothing.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from monitoring.ledger import Outcome
from monitoring.policy import PROMOTIONS, RetrainRequest
from perennial.errors import RegistryError
from perennial.model_loading import read_card_fields
from perennial.registry import APPROVAL, CHAMPION, REJECTED, REQUEST, Registry

VERDICTS: Mapping[str, Outcome] = {CHAMPION: "promoted", APPROVAL: "held", REJECTED: "rejected"}
"""What the move of an alias says about the version."""


log = logging.getLogger(__name__)


class Settled(NamedTuple):
    """An outcome that the registry shows, and how."""

    outcome: Outcome
    reason: str


def find_outcome(
    registry: Registry, request: RetrainRequest, *, challengers_suffice: bool, since: datetime | None = None
) -> Settled | None:
    """The outcome of a request; None where nothing has come of it yet. Looks at the moves `since` it was decided.

    A version that was trained for it is an outcome if `challengers_suffice`; else it still has to be judged.
    """
    name, event_id = request.model, request.event_id
    for move in registry.moves(name):
        if since is not None and move.at < since:
            break
        if move.evidence.get(REQUEST) == event_id:
            outcome: Outcome = "rolled back" if move.rollback else VERDICTS[move.alias]
            return Settled(outcome, f"version {move.version} was {outcome} for this event already")
    trained = trained_for(registry, request) if challengers_suffice and request.cause not in PROMOTIONS else None
    return Settled("challenger", f"version {trained} was trained for this event already") if trained is not None else None


def trained_for(registry: Registry, request: RetrainRequest) -> int | None:
    """The version that was trained for an event, the newest should there be several."""
    newer = (version for version in reversed(registry.versions(request.model)) if version > request.version)
    return next((one for one in newer if _event_of(registry, request.model, one) == request.event_id), None)


def trained_by_clock(registry: Registry, name: str, since: datetime) -> int | None:
    """The newest version that was trained by the clock since a moment."""
    for version in reversed(registry.versions(name)):
        if _card_field(registry, name, version, "cause", "kind") != "schedule":
            continue
        at = _card_field(registry, name, version, "trained_at")
        if at is not None and datetime.fromisoformat(at) >= since:
            return version
    return None


def _event_of(registry: Registry, name: str, version: int) -> str | None:
    return _card_field(registry, name, version, "cause", "event_id")


def _card_field(registry: Registry, name: str, version: int, *keys: str) -> str | None:
    try:
        found: Any = read_card_fields(registry, name, version)
        for key in keys:
            found = found[key]
    except (RegistryError, ValueError, KeyError, TypeError) as error:
        log.warning("version %d of %s does not say its %s: %s", version, name, " ".join(keys), error)
        return None
    return None if found is None else str(found)
