"""Gates: what each rule of refusing a new version is worth, as a share of what perfect foresight would gain.

Each case is a champion that is up to eight windows old and a new version at a boundary. Truth is their mean loss over the next
four windows. The judge is the model without the newest window, on that window. A rule that publishes the judge itself, as a gate
with a holdout does, goes without the newest rows; ours publishes the model that knows them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perennial.metrics import probability_lower
from tasks.backtest.loss_matrix import LossMatrix

AGES, NEXT = range(1, 9), 4
REFUSED_BELOW, SIGNIFICANT = 0.2, 0.9


@dataclass(frozen=True)
class Case:
    """`better` is P(the judge loses less than the champion), None where they are the same model; gains are mean losses saved."""

    better: float | None
    gain: float
    gain_without_newest: float


@dataclass(frozen=True)
class Gate:
    """Whether a case passes, and which model is published then."""

    passes: Callable[[float | None], bool]
    refitted: bool = True


GATES = {
    "always yes": Gate(lambda _: True),
    "perennial": Gate(lambda better: better is None or better >= REFUSED_BELOW),
    "always yes, without the newest rows": Gate(lambda _: True, refitted=False),
    "any gain on a holdout": Gate(lambda better: better is not None and better > 0.5, refitted=False),
    "significant gain on a holdout": Gate(lambda better: better is not None and better >= SIGNIFICANT, refitted=False),
}


def gate_values(matrix: LossMatrix) -> dict[str, dict[str, float | None]]:
    """By gate: its value as a share of foresight's, and the share of cases it decides as foresight does."""
    cases = list(find_cases(matrix))
    foresight = sum(max(one.gain, 0.0) for one in cases)
    found: dict[str, dict[str, float | None]] = {}
    for name, gate in GATES.items():
        gains = [one.gain if gate.refitted else one.gain_without_newest for one in cases]
        passed = [gate.passes(one.better) for one in cases]
        value = sum(gain for gain, yes in zip(gains, passed, strict=True) if yes)
        right = [yes == (gain > 0) for gain, yes in zip(gains, passed, strict=True)]
        found[name] = {
            "value": value / foresight if foresight > 0 else None,
            "accuracy": float(np.mean(right)) if right else None,
        }
    return found


def find_cases(matrix: LossMatrix) -> Iterator[Case]:
    """Every new version beside every champion of the stated ages."""
    for boundary in matrix.boundaries:
        for champion in (boundary - age for age in AGES if boundary - age >= matrix.first):
            following = matrix.judged[(matrix.judged >= boundary) & (matrix.judged < boundary + NEXT)]
            judge, standing = matrix.cell(boundary - 1, boundary - 1), matrix.cell(champion, boundary - 1)
            if following.size and judge and standing:
                means = [float(matrix.losses[model, following].mean()) for model in (champion, boundary, boundary - 1)]
                better = (
                    None if champion == boundary - 1 else probability_lower(np.array(judge.sums), np.array(standing.sums), seed=0)
                )
                yield Case(better, means[0] - means[1], means[0] - means[2])
