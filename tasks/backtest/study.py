"""The study: what each policy would have cost, beside never, always, chance, calendars and hindsight."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial

import numpy as np

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel
from perennial.signals import Signal, signals_of
from perennial.spec import ModelSpec
from perennial.spec_policy import TRAINED_ON_WITH_PROBES
from tasks.backtest.hindsight import hindsight
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.policies import Alarms, Past, Priced, baselines, monitored, priced_baselines
from tasks.backtest.simulate import Life, simulate

COSTS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""What a new version may be worth, in losses of one window: regret is pooled over these."""

EARLY = 0.6
"""Share of the windows on which anything is chosen; it is judged on the later ones."""

RANDOM_TIMINGS = 2_000
"""Lives with as many promotions at random moments, against which a policy's timing is measured."""

BLOCK, DRAWS = 4, 500
"""Windows that are drawn together, and draws, of a bootstrap: neighbouring windows resemble each other."""

DEFAULT = "perennial"
"""Name of our policy as the spec's defaults have it: a challenger on findings, and after waits that double up to 4 windows."""

FINDINGS = ("drift", "performance")

CHALLENGER, PROBE = {"evidence": "challenger"}, {"evidence": "probe"}

PROBED = "perennial, probe"
"""Name of our policy without challengers."""

OURS: dict[str, dict[str, object]] = {
    DEFAULT: {**CHALLENGER, "train_on": (*FINDINGS, "every", "age"), "every": 4},
    "perennial, every window": {**CHALLENGER, "train_on": ("every", "age"), "every": 1},
    "perennial, every 8 and findings": {**CHALLENGER, "train_on": (*FINDINGS, "every", "age"), "every": 8},
    "perennial, every 4 alone": {**CHALLENGER, "train_on": ("every", "age"), "every": 4},
    "perennial, findings alone": {**CHALLENGER, "train_on": (*FINDINGS, "age")},
    PROBED: {**PROBE, "train_on": TRAINED_ON_WITH_PROBES},
}
"""Our policies by the keys of `[policy]` in which they differ: what the champion is compared with, what trains a challenger."""


class PolicyResult(FrozenModel):
    """What became of one policy; counts, loss and ranks are those of its life at the spec's cost.

    gain_share: of what a promotion at each window gains over never, with its 90 % interval (block bootstrap of windows).
    percentile: of random timings of as many promotions that lost more. calendars_beaten: share of the calendars (phases) of as
    many promotions that lost more. regret: 1 is never, 0 the best promotions in hindsight, pooled over COSTS.
    promotion_rate_after_promotion: share of the promotions that the next boundary followed with another. delay: mean windows
    from a promotion of hindsight to the policy's next one. None where there is nothing to measure it on.
    """

    name: str
    trainings: int
    promotions: int
    possible: int
    mean_loss: float
    gain_share: float | None
    gain_interval: tuple[float, float] | None
    percentile: float | None
    calendars_beaten: float | None
    regret: float | None
    promotion_rate_after_promotion: float | None
    delay: float | None


class FindingRate(FrozenModel):
    """How often a finding alarms on the first window after a training, and on windows whose champion costs more than `cost`."""

    first_windows: int
    alarms_after_training: float | None
    stale_windows: int
    power: float | None


class Study:
    """Compares lives in one matrix; random timings come from a generator of the given seed.

    Policies with thresholds fit them on `past`: by default on the first part of the windows that are compared themselves.
    """

    def __init__(self, matrix: LossMatrix, spec: ModelSpec, seed: int = 0, past: Past | None = None) -> None:
        self.matrix, self.spec, self._seed, self._past = matrix, spec, seed, past
        self.alarms = Alarms(matrix, spec)
        self._random, self._calendars = lru_cache(maxsize=None)(self._random_timings), lru_cache(maxsize=None)(self._phases)
        self._best = lru_cache(maxsize=None)(lambda cost: hindsight(matrix, cost * self.unit))

    @cached_property
    def never(self) -> Floats:
        """Loss of each judged window with the first model left alone."""
        return self.losses(Life((), 0))

    @cached_property
    def always(self) -> Floats:
        """Loss of each judged window with a promotion at each boundary."""
        return self.losses(simulate(self.matrix, lambda _: True))

    @property
    def unit(self) -> float:
        """One window's loss, in which costs are counted."""
        return float(self.always.mean())

    @property
    def early(self) -> int:
        """How many of the judged windows anything is chosen on."""
        return math.ceil(EARLY * len(self.matrix.judged))

    def past(self) -> Past:
        """The windows that anything is fitted on."""
        return self._past or Past(self.matrix, self.unit, self.early)

    def later(self) -> "Study":
        """The life that begins after the windows on which anything is fitted: every policy starts with the same new model."""
        first = int(self.matrix.judged[self.early])
        return Study(replace(self.matrix, first=first), self.spec, self._seed, self.past())

    def losses(self, life: Life) -> Floats:
        """Loss of each judged window in a life."""
        return self.matrix.losses_of(life.promotions)

    def expenses(self, life: Life, cost: float) -> Floats:
        """Loss of each judged window in units, and the cost of the promotions that came with it or since the one before."""
        found = self.losses(life) / self.unit
        places = np.searchsorted(self.matrix.judged, life.promotions)
        return found + cost * np.bincount(np.minimum(places, found.size - 1), minlength=found.size)

    def ours(self) -> dict[str, Priced]:
        """Our policies; what they do not say is as in the spec. That of the probe needs the rows."""
        names = [name for name in OURS if name != PROBED or self.matrix.probes is not None]
        return {name: partial(monitored, self.matrix, self.spec, self.alarms, OURS[name]) for name in names}

    @cached_property
    def default(self) -> Life:
        """The life under our policy as the spec's defaults have it, at the spec's cost."""
        return self.ours()[DEFAULT](self.spec.policy.cost)

    def policies(self) -> dict[str, Priced]:
        """All policies, ours first."""
        fixed = {name: partial(_at_any_cost, life) for name, life in baselines(self.matrix, self.alarms).items()}
        return {**self.ours(), **priced_baselines(self.matrix, self.past()), **fixed}

    def results(self) -> tuple[PolicyResult, ...]:
        """Every policy judged, and what hindsight would have done."""
        hindsight_result = self.judge("hindsight", self._best)
        return (*(self.judge(name, policy) for name, policy in self.policies().items()), hindsight_result)

    def judge(self, name: str, policy: Priced) -> PolicyResult:
        """One policy."""
        life = policy(self.spec.policy.cost)
        losses, count, possible = self.losses(life), len(life.promotions), len(self.matrix.boundaries)
        loss, ranked = float(losses.mean()), 0 < count < possible
        followed = [boundary + 1 in life.promotions for boundary in life.promotions if boundary + 1 in self.matrix.boundaries]
        return PolicyResult(
            name=name,
            trainings=life.trainings,
            promotions=count,
            possible=possible,
            mean_loss=loss,
            gain_share=self.gain_share(losses, slice(None)),
            gain_interval=self._gain_interval(losses),
            percentile=float((self._random(count) > loss).mean() * 100) if ranked else None,
            calendars_beaten=float((self._calendars(count) > loss).mean()) if ranked else None,
            regret=self.regret({cost: policy(cost) for cost in COSTS}),
            promotion_rate_after_promotion=float(np.mean(followed)) if followed else None,
            delay=self._delay(life),
        )

    def gain_share(self, losses: Floats, where: slice | Indices) -> float | None:
        """Of what a promotion at each window gains over never on some windows; None where that is nothing."""
        gain = float((self.never[where] - self.always[where]).sum())
        return float((self.never[where] - losses[where]).sum()) / gain if gain > 0 else None

    def regret(self, lives: Mapping[float, Life]) -> float | None:
        """Pooled over the costs: where even hindsight gains next to nothing, a share of that would be noise."""
        best = {cost: self._total(self._best(cost), cost) for cost in lives}
        lost = sum(self._total(life, cost) - best[cost] for cost, life in lives.items())
        gainable = sum(self._total(Life((), 0), cost) - best[cost] for cost in lives)
        return lost / gainable if gainable > 0 else None

    def finding_rates(self) -> dict[str, FindingRate]:
        """By signal, and for any that is enabled: false alarms after a training, and power where the champion costs too much."""
        named = {signal.name: (signal,) for signal in signals_of(self.spec.task)} | {"any": self.alarms.signals}
        fresh = [(boundary, boundary) for boundary in self.matrix.judged.tolist()]
        stale = [
            (champion, window)
            for window in self.matrix.judged.tolist()
            for champion in range(self.matrix.first, window)
            if (entry := self.matrix.excess(champion, window, window)) and entry.excess >= self.spec.policy.cost
        ]
        found = {}
        for name, signals in named.items():
            (first, false_alarms), (old, power) = (self._rate(signals, pairs) for pairs in (fresh, stale))
            found[name] = FindingRate(first_windows=first, alarms_after_training=false_alarms, stale_windows=old, power=power)
        return found

    def _rate(self, signals: tuple[Signal, ...], pairs: Sequence[tuple[int, int]]) -> tuple[int, float | None]:
        """On how many of the (champion, window) pairs any of the signals can be judged, and the share of those that alarm."""
        known = [one for pair in pairs if (one := self._alarms(signals, *pair)) is not None]
        return len(known), float(np.mean(known)) if known else None

    def _alarms(self, signals: tuple[Signal, ...], champion: int, window: int) -> bool | None:
        verdicts = [self.alarms.verdict(signal, champion, window) for signal in signals]
        known = [one for one in verdicts if one is not None]
        return any(known) if known else None

    def _total(self, life: Life, cost: float) -> float:
        return float(self.losses(life).sum()) / self.unit + cost * len(life.promotions)

    def _gain_interval(self, losses: Floats) -> tuple[float, float] | None:
        drawn = [self.gain_share(losses, windows) for windows in draws(losses.size, self._seed)]
        known = [share for share in drawn if share is not None]
        return (float(np.quantile(known, 0.05)), float(np.quantile(known, 0.95))) if known else None

    def _delay(self, life: Life) -> float | None:
        waits = [
            min(later) - boundary
            for boundary in self._best(self.spec.policy.cost).promotions
            if (later := [one for one in life.promotions if one >= boundary])
        ]
        return float(np.mean(waits)) if waits else None

    def _random_timings(self, count: int) -> Floats:
        """Mean losses with as many promotions at random moments."""
        chances = np.random.default_rng(self._seed).random((RANDOM_TIMINGS, len(self.matrix.boundaries)))
        promoted = np.zeros((RANDOM_TIMINGS, len(self.matrix.windows)), dtype=bool)
        np.put_along_axis(promoted, chances.argsort(axis=1)[:, :count] + self.matrix.boundaries[0], values=True, axis=1)
        found: Floats = self.matrix.losses_when(promoted).mean(axis=1)
        return found

    def _phases(self, count: int) -> Floats:
        """Mean loss with promotions at equal distances, from each phase that fits."""
        possible = np.asarray(self.matrix.boundaries)
        step = len(possible) / count
        places = [(np.arange(count) * step + phase).astype(int) for phase in range(int(step))]
        return np.array([self.matrix.losses_of(possible[one]).mean() for one in places])


def _at_any_cost(life: Life, _cost: float) -> Life:
    return life


def draws(size: int, seed: int) -> list[Indices]:
    """Places of windows drawn in blocks of neighbours (moving-block bootstrap, Kuensch 1989)."""
    generator, length = np.random.default_rng(seed), min(BLOCK, size)
    starts = generator.integers(0, size - length + 1, (DRAWS, -(-size // length)))
    return list((starts[:, :, None] + np.arange(length)).reshape(DRAWS, -1)[:, :size])


def standard_error(values: Floats, seed: int = 0) -> float:
    """Of the sum of a series of windows, by the same bootstrap; infinite for a single one."""
    return float(np.std([values[places].sum() for places in draws(values.size, seed)])) if values.size > 1 else math.inf
