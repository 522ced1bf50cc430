"""Measuring: two ways of doing one thing, in turn, and their ratio with its spread, because machines are noisy."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Seconds per round of both ways, in the order in which they were measured."""

    name: str
    rows: int
    ours: tuple[float, ...]
    other: tuple[float, ...]
    against: str

    @property
    def rate(self) -> float:
        """Rows a second of ours, at the median."""
        return self.rows / statistics.median(self.ours)

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast ours was, round by round, ascending."""
        return tuple(sorted(other / ours for ours, other in zip(self.ours, self.other, strict=True)))

    def line(self) -> str:
        """For people."""
        low, middle, high = self.ratios[0], statistics.median(self.ratios), self.ratios[-1]
        return f"{self.name:<34} {self.rate:>12,.0f} rows/s   {middle:6.2f} x {self.against} ({low:.2f} to {high:.2f})"

    def record(self) -> dict[str, object]:
        """For the results file."""
        return {"name": self.name, "rows_per_s": self.rate, "against": self.against, "ratios": self.ratios}


def compare(
    name: str, rows: int, ours: Callable[[], object], other: Callable[[], object], against: str, rounds: int
) -> Comparison:
    """Measure A B A B ... after one unmeasured round of each."""
    ours(), other()
    pairs = [(_seconds(ours), _seconds(other)) for _ in range(rounds)]
    first, second = zip(*pairs, strict=True)
    return Comparison(name, rows, first, second, against)


def write_results(file: Path, record: Mapping[str, object]) -> None:
    """Write what was measured, for the pages and for comparisons with later runs."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
