"""Which faults each episode does, and when: all of it follows from the seed.

Kinds are dealt like cards: every kind comes once before any comes again, so that a long run leaves none out. Every third episode
does two faults to processes at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

AT_RANDOM = "at random"
"""A moment of the week's traffic, `Fault.delay` after its beginning."""

SUPERVISED = ("prefect worker", "prefect server", "store")
SERVICE = ("service worker", "service main", "http processes")
FLOW_STEPS = {
    "monitor": (AT_RANDOM, "decided", "sent", "closed"),
    "retrain": (AT_RANDOM, "started", "published", "promoted", "settled"),
}
"""Flow runs, and the steps right after which they are killed: what is watched for is a file that the step writes."""

DATA = (
    "store out of memory",
    "disk full",
    "slow disk",
    "half-written version",
    "damaged files",
    "garbage in streams",
    "poisoned record",
    "clock jump",
    "duplicate delivery",
)
LATER = ("sent", "started", "published", "promoted")
"""Moments beside a random one for faults that may come at any time."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: what, right after which step or `delay` seconds into the week, and for how many seconds."""

    kind: str
    moment: str = AT_RANDOM
    delay: float = 0.0
    seconds: float = 4.0

    @property
    def is_of_training(self) -> bool:
        """Whether it harms the process of a training."""
        return self.kind.endswith(" retrain")

    def __str__(self) -> str:
        return f"{self.kind}, {self.moment}" if self.moment != AT_RANDOM else f"{self.kind}, {self.delay:.1f} s in"


@dataclass(frozen=True)
class Episode:
    """One week of the world with its faults, which come in their order."""

    number: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.faults))


def kinds() -> tuple[tuple[str, str | None], ...]:
    """Every kind, with its moment where it has one of its own."""
    steps = [(f"kill {flow}", moment) for flow, moments in FLOW_STEPS.items() for moment in moments]
    processes = [(f"kill {name}", None) for name in (*SERVICE, *SUPERVISED, "supervisor")]
    stops = [(f"stop {name}", None) for name in (*SERVICE[:2], *SUPERVISED, *FLOW_STEPS)]
    restarts = [(f"restart {name}", None) for name in (*SERVICE[:2], *SUPERVISED)]
    return (*steps, *processes, *stops, *restarts, *((name, None) for name in DATA))


def plan(episodes: int, seed: int, left_out: Sequence[str] = ()) -> list[Episode]:
    """The episodes of a seed, without the kinds that this machine cannot do."""
    chance = Random(seed)
    cards = _deal([one for one in kinds() if one[0] not in left_out], chance)
    seconds = cycle(_shuffled([one for one in kinds() if _kills_beside(one[0])], chance))
    found = []
    for number, card in enumerate(islice(cards, episodes), start=1):
        faults = [_fault(*card, chance)]
        if number % 3 == 0:
            other, _ = next(one for one in seconds if one[0] != card[0])
            faults.append(_fault(other, faults[0].moment, chance, faults[0].delay))
        found.append(Episode(number, tuple(faults)))
    return found


def _fault(kind: str, moment: str | None, chance: Random, delay: float | None = None) -> Fault:
    if moment is None:
        moment = chance.choice((AT_RANDOM, AT_RANDOM, *LATER)) if kind.split()[-1] not in FLOW_STEPS else "started"
    own = chance.uniform(0, 6) if delay is None else delay
    seconds = chance.uniform(8, 12) if kind == "stop retrain" else chance.uniform(2, 5)
    return Fault(kind, moment, round(own, 2), round(seconds, 1))


def _kills_beside(kind: str) -> bool:
    """Whether a fault may come beside another: what is done to one process and is over at once."""
    return kind.startswith(("kill", "restart")) and not kind.endswith(("supervisor", *FLOW_STEPS))


def _deal(kinds: Sequence[tuple[str, str | None]], chance: Random) -> Iterator[tuple[str, str | None]]:
    while True:
        yield from _shuffled(kinds, chance)


def _shuffled(kinds: Sequence[tuple[str, str | None]], chance: Random) -> list[tuple[str, str | None]]:
    return chance.sample(list(kinds), len(kinds))
