"""Figures: what the rounds measured, its medians, and ratios taken round by round. Pure; the results file is made here."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

BARE, TUNED = "fastapi", "fastapi-tuned"
"""What everything is compared with: one process, and two."""

FOREIGN = 0.15
"""Cores taken by others, from which on a run counts as contended."""


@dataclass(frozen=True)
class Measured:
    """One server under one load. Times in milliseconds; CPU is the server's whole tree, the store's counted apart."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    store_us_per_request: float = 0.0
    foreign_cores: float = 0.0


Loads = Mapping[int, Measured]


@dataclass
class Round:
    """One round: one-row requests by server and connections, many-row requests by server and rows, and idling servers."""

    single: dict[str, dict[int, Measured]] = field(default_factory=dict)
    bulk: dict[str, dict[int, Measured]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """A figure's median over the rounds, and its extremes."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as `2.61 (2.55 to 2.70)`."""
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Iterable[float]) -> Spread | None:
    """None when there are no values."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1]) if known else None


Pick = Callable[[Round], float | None]


def over(rounds: Sequence[Round], pick: Pick) -> Spread | None:
    """The spread of what `pick` finds in each round."""
    return spread(value for one in rounds if (value := pick(one)) is not None)


def single(server: str, connections: int, what: str = "rps") -> Pick:
    """A figure of one-row requests."""
    return lambda one: _figure(one.single, server, connections, what)


def bulk(server: str, rows: int, what: str = "rps") -> Pick:
    """A figure of many-row requests."""
    return lambda one: _figure(one.bulk, server, rows, what)


def rows_per_s(server: str, rows: int) -> Pick:
    """Rows a second of many-row requests."""
    return scaled(bulk(server, rows), rows)


def idle(server: str) -> Pick:
    """Per cent of a core while nobody asks."""
    return lambda one: one.idle.get(server)


def scaled(pick: Pick, factor: float) -> Pick:
    """A figure times a number."""
    return lambda one: None if (value := pick(one)) is None else value * factor


def ratio(above: Pick, below: Pick) -> Pick:
    """Both in the same round, so that a slow minute of the machine hits both."""

    def divided(one: Round) -> float | None:
        first, second = above(one), below(one)
        return first / second if first is not None and second else None

    return divided


def document(rounds: Sequence[Round], machine: Mapping[str, object]) -> dict[str, object]:
    """The results file; in `median` and in each of `rounds` it is {server: {connections: figures}}."""
    return {
        "machine": {**machine, **contention(rounds)},
        "median": {name: {str(load): _median(rounds, name, load) for load in found} for name, found in rounds[0].single.items()},
        "rounds": [
            {name: {str(load): _in_round(one, name, load) for load in found} for name, found in one.single.items()}
            for one in rounds
        ],
        "bulk": {name: {str(rows): _bulk(rounds, name, rows) for rows in found} for name, found in rounds[0].bulk.items()},
        "idle_cpu_percent": {name: _middle(rounds, idle(name)) for name in rounds[0].idle},
    }


def contention(rounds: Sequence[Round]) -> dict[str, object]:
    """How many cores others took meanwhile, and whether that is too many to trust the figures."""
    foreign = [found.foreign_cores for one in rounds for loads in one.single.values() for found in loads.values()]
    middle = statistics.median(foreign)
    return {"foreign_cores": round(middle, 3), "contended": middle > FOREIGN}


def _median(rounds: Sequence[Round], name: str, load: int) -> dict[str, float | None]:
    return {what: _middle(rounds, pick) for what, pick in _figures(name, load).items()}


def _in_round(one: Round, name: str, load: int) -> dict[str, float | None]:
    more = {what: single(name, load, what) for what in ("store_us_per_request", "foreign_cores")}
    return {what: _rounded(pick(one)) for what, pick in {**_figures(name, load), **more}.items()}


def _figures(name: str, load: int) -> dict[str, Pick]:
    own = {what: single(name, load, what) for what in ("rps", "p50_ms", "p99_ms", "cpu_us_per_request")}
    against = {"ratio_to_fastapi": BARE, "ratio_to_fastapi_tuned": TUNED}
    return {**own, **{what: ratio(single(name, load), single(other, load)) for what, other in against.items()}}


def _bulk(rounds: Sequence[Round], name: str, rows: int) -> dict[str, float | None]:
    own = {what: bulk(name, rows, what) for what in ("p50_ms", "p99_ms", "cpu_us_per_request")}
    picks = {"rows_per_s": rows_per_s(name, rows), **own, "ratio_to_fastapi": ratio(bulk(name, rows), bulk(BARE, rows))}
    return {what: _middle(rounds, pick) for what, pick in picks.items()}


def _middle(rounds: Sequence[Round], pick: Pick) -> float | None:
    found = over(rounds, pick)
    return None if found is None else _rounded(found.middle)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _figure(loads: Mapping[str, Loads], server: str, load: int, what: str) -> float | None:
    found = loads.get(server, {}).get(load)
    return None if found is None else float(getattr(found, what))
