"""The challenger's share: which rows of a request the challenger answers in the champion's place, and whether it may answer any.

A row's id decides: its BLAKE2b hash under a key made of the model's name and the challenger's version, below the share of all
hashes there are. So an id is answered by the same version whenever, wherever and in whatever request it is asked, as long as
that version is the challenger; a larger share adds ids and takes none away; the next challenger gets others. One hash takes a
microsecond, and is taken only where a challenger answers.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from perennial.registry import CHALLENGER, CHAMPION, REJECTED, Aliases, Move

DIGEST = 8  # bytes of a hash: the share is exact to one in 2**64
KEY = 32  # bytes of the key


class ChallengerShare:
    """`percent` of the ids, chosen anew for each version of a model."""

    def __init__(self, percent: float, model: str, version: int) -> None:
        self.percent, self.version = percent, version
        self._below: int = round(percent / 100 * 2 ** (8 * DIGEST))
        self._key = blake2b(f"{model}:{version}".encode(), digest_size=KEY).digest()

    def __str__(self) -> str:
        return f"{self.percent:g} %, by version {self.version}"

    def has(self, id_: str) -> bool:
        """Whether the challenger answers the row with this id."""
        hashed = blake2b(id_.encode(), digest_size=DIGEST, key=self._key).digest()
        return int.from_bytes(hashed, "big") < self._below

    def chosen(self, ids: Sequence[str]) -> list[bool]:
        """`has` of each."""
        return [self.has(id_) for id_ in ids]


def withheld(aliases: Aliases, moves: Iterable[Move]) -> str | None:
    """Why the challenger answers no client, if so; `moves` are those of the model's aliases, the newest first.

    A version that was champion before, rolled back or not, and one that the gate refused stay away from clients.
    """
    champion, challenger = aliases.champion, aliases.challenger
    if challenger is None:
        return "there is no challenger"
    if champion is None or challenger <= champion:
        return f"version {challenger} is not newer than the champion"
    for move in moves:
        if move.version != challenger:
            continue
        if move.alias == CHAMPION:
            return f"version {challenger} was champion before"
        if move.alias == REJECTED:
            return f"the gate refused version {challenger}"
        if move.alias == CHALLENGER:
            break  # before this it was not published
    return None
