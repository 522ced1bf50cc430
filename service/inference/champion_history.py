"""What the moves of a model's aliases say: when a version became champion, and by which schemas clients may write rows.

No promotion breaks a client. A champion's columns are accepted until its row contract is closed: by hand (the alias `contract`
moves to the version that is champion then) or by the spec's `contract_until`; the challenger's are accepted before it serves.
Read by the model watcher's thread whenever an alias has moved, and when the spec's day has passed.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime

from perennial.errors import CorruptVersion, NewerFormat, VersionNotFound
from perennial.model_loading import read_card_fields
from perennial.registry import CHAMPION, CONTRACT, Aliases, Move, Registry
from perennial.schema import Schema

logger = logging.getLogger(__name__)


class ChampionHistory:
    """`schemas` are those of all champions since the last close and of the challenger; `promoted_at` is by version."""

    def __init__(self, registry: Registry, name: str, until: date | None) -> None:
        self._registry, self._name, self._until = registry, name, until
        self._seen: tuple[int, bool] | None = None
        self._read: dict[int, Schema | None] = {}
        self.schemas: tuple[Schema, ...] = ()
        self.promoted_at: dict[int, datetime] = {}

    def follow(self, aliases: Aliases, now: datetime) -> None:
        """Read the moves again if there are new ones; raises what the storage raises, and then keeps what was known."""
        until = self._until if self._until and now.date() > self._until else None
        if self._seen == (aliases.generation, until is not None):
            return
        promoted_at, versions = read_moves(self._registry.moves(self._name), until)
        if aliases.challenger is not None:
            versions.append(aliases.challenger)
        found = [self._schema(version) for version in dict.fromkeys(versions)]
        self.schemas = tuple({schema.model_dump_json(): schema for schema in found if schema}.values())
        self.promoted_at, self._seen = promoted_at, (aliases.generation, until is not None)

    def _schema(self, version: int) -> Schema | None:
        """A version's schema; None for one that is gone or damaged. A version never changes, so each is read once."""
        if version not in self._read:
            try:
                card = read_card_fields(self._registry, self._name, version)
                self._read[version] = Schema.model_validate(card["schema"])
            except (VersionNotFound, CorruptVersion, NewerFormat, ValueError, KeyError) as error:
                logger.warning("rows in the form of version %d of %s are not accepted: %s", version, self._name, error)
                self._read[version] = None
        return self._read[version]


def read_moves(moves: Iterable[Move], until: date | None) -> tuple[dict[int, datetime], list[int]]:
    """When versions became champion, and which of them were since the contracts before were closed; `moves` newest first.

    `until` is the last day of earlier contracts, where that has passed.
    """
    promoted_at: dict[int, datetime] = {}
    versions: list[int] = []
    closed = False
    for move in moves:
        if not closed and (champion := move.positions.get(CHAMPION)) is not None:
            versions.append(champion)
        if move.alias == CHAMPION and move.version is not None:
            promoted_at.setdefault(move.version, move.at)
        closed = closed or move.alias == CONTRACT or (until is not None and move.at.astimezone(UTC).date() <= until)
        if closed and promoted_at:
            break
    return promoted_at, versions
