"""Aims: what this project promises of its serving, each judged on the rounds that were measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.serve.figures import BARE, TUNED, Pick, Round, Spread, bulk, idle, over, ratio, rows_per_s, single

OURS, SILENT, STOCK = "perennial", "perennial-nolog", "litserve"


@dataclass(frozen=True)
class Aim:
    """A figure, and the bound on its right side."""

    text: str
    figure: Pick
    side: Literal[">=", "<="]
    bound: float

    def judge(self, rounds: Sequence[Round]) -> "Verdict | None":
        """None when the rounds do not hold what it needs."""
        found = over(rounds, self.figure)
        if found is None:
            return None
        return Verdict(self, found, found.middle >= self.bound if self.side == ">=" else found.middle <= self.bound)


@dataclass(frozen=True)
class Verdict:
    """An aim and what was found; the median decides."""

    aim: Aim
    found: Spread
    met: bool

    def record(self) -> dict[str, object]:
        """For the results file."""
        found = {"median": round(self.found.middle, 3), "low": round(self.found.low, 3), "high": round(self.found.high, 3)}
        return {"aim": self.aim.text, "bound": f"{self.aim.side} {self.aim.bound:g}", **found, "met": self.met}

    def line(self) -> str:
        """A row of a Markdown table."""
        return f"| {self.aim.text} | {self.aim.side} {self.aim.bound:g} | {self.found} | {'met' if self.met else '**missed**'} |"


def _against(other: str, connections: int) -> Pick:
    return ratio(single(OURS, connections), single(other, connections))


AIMS = (
    Aim("64 connections: requests/s over tuned FastAPI, 2 processes each", _against(TUNED, 64), ">=", 1.35),
    Aim("16 connections: requests/s over bare FastAPI", _against(BARE, 16), ">=", 2.4),
    Aim("1 connection: requests/s over tuned FastAPI", _against(TUNED, 1), ">=", 0.9),
    Aim("64 connections: requests/s over stock LitServe", _against(STOCK, 64), ">=", 6.0),
    Aim("64 connections: p99 over tuned FastAPI's", ratio(single(OURS, 64, "p99_ms"), single(TUNED, 64, "p99_ms")), "<=", 1.0),
    Aim(
        "64 connections: CPU per request, log on over log off",
        ratio(single(OURS, 64, "cpu_us_per_request"), single(SILENT, 64, "cpu_us_per_request")),
        "<=",
        1.15,
    ),
    Aim("100 rows a request: rows/s over bare FastAPI", ratio(bulk(OURS, 100), bulk(BARE, 100)), ">=", 1.0),
    Aim("1,000 rows a request: rows/s over bare FastAPI", ratio(bulk(OURS, 1_000), bulk(BARE, 1_000)), ">=", 1.5),
    Aim("10,000 rows a request: rows/s over those at 1,000", ratio(rows_per_s(OURS, 10_000), rows_per_s(OURS, 1_000)), ">=", 0.5),
    Aim("idle: per cent of a core", idle(OURS), "<=", 1.0),
)


def judge(rounds: Sequence[Round]) -> list[Verdict]:
    """Every aim that these rounds can judge."""
    return [verdict for aim in AIMS if (verdict := aim.judge(rounds)) is not None]
