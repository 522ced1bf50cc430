"""Simulate: live through the windows of a loss matrix under one policy.

A policy is asked at each boundary, when the window before it is closed, and knows by then what the monitor would know: drift of
that window, losses up to the newest window with labels. What it promotes at a boundary is the model of that boundary. Ours is
the monitor's own code: `monitoring.policy.decide` on the findings and the account that the matrix holds of each window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from monitoring.avoidable_loss import ExcessLoss
from monitoring.champion_account import ChampionAccount, PairedLoss
from monitoring.policy import Findings, RetrainRequest, decide
from monitoring.probe import FACTOR
from perennial.signals import Bounds, signals_of
from perennial.spec import ModelSpec
from tasks.backtest.loss_matrix import LossMatrix


@dataclass(frozen=True)
class Life:
    """What became of it: the boundaries at which a new version was promoted, and how many trainings it took."""

    promotions: tuple[int, ...]
    trainings: int


@dataclass(frozen=True)
class Moment:
    """A boundary as a policy sees it. `drifted` and `labelled` are the newest windows with rows, and with labels."""

    matrix: LossMatrix
    boundary: int
    champion: int

    @property
    def drifted(self) -> int:
        """The window that has just been closed."""
        return self.boundary - 1

    @property
    def labelled(self) -> int:
        """The newest window whose labels have come."""
        return self.boundary - 1 - self.matrix.lag

    @property
    def age(self) -> int:
        """Windows since the champion was trained."""
        return self.boundary - self.champion


Rule = Callable[[Moment], bool]
"""Whether to train a model here, and promote it."""


def simulate(matrix: LossMatrix, promote: Rule) -> Life:
    """A life in which each promotion is one training."""
    champion, promotions = matrix.first, []
    for boundary in matrix.boundaries:
        if promote(Moment(matrix, boundary, champion)):
            champion = boundary
            promotions.append(boundary)
    return life_with(promotions)


def life_with(promotions: Sequence[int]) -> Life:
    """A life whose promotions are known beforehand."""
    return Life(tuple(promotions), len(promotions))


class Compared(NamedTuple):
    """The champion beside another model on one window."""

    version: int
    champion_loss: float
    other_loss: float
    difference: ExcessLoss


@dataclass
class MonitoredLife:
    """A life under the spec's `[policy]`: versions are named by the boundary at which they were trained.

    A promotion trains the model of its boundary; account and challengers begin anew with each champion.
    """

    matrix: LossMatrix
    spec: ModelSpec
    bounds: Callable[[int], Bounds]
    account: ChampionAccount = field(init=False)
    challengers: list[int] = field(default_factory=list)
    last: RetrainRequest | None = None
    promotions: list[int] = field(default_factory=list)
    trainings: int = 0

    def __post_init__(self) -> None:
        self.account = ChampionAccount(champion=self.matrix.first)

    def run(self) -> Life:
        """Live through it once."""
        for boundary in self.matrix.boundaries:
            self._close(Moment(self.matrix, boundary, self.account.champion))
        return Life(tuple(self.promotions), self.trainings)

    def _close(self, moment: Moment) -> None:
        """Close the window before a boundary: book it, decide, and do what was decided."""
        self._book(moment)
        statement = self.account.statement(self.spec, self._newest_age(moment))
        decision = decide(self._findings(moment), self.last, self.spec, account=statement)
        if decision.flow is None:
            return
        self.last = _request(moment, decision.kind)
        self.trainings += 1
        if decision.flow == "promote" or self.spec.policy.promote == "always":
            self.promotions.append(moment.boundary)
            self.account, self.challengers = ChampionAccount(champion=moment.boundary), []
        else:
            self.challengers.append(moment.boundary)

    def _book(self, moment: Moment) -> None:
        """The newest labelled window, with the newest challenger that may judge it, or with a probe."""
        window, probed = moment.labelled, self.spec.policy.evidence == "probe"
        found = self._probe(moment) if probed else self._challenger(moment)
        if found is None:
            return
        version, champion_loss, other_loss, difference = found
        entry = PairedLoss(
            window=self.matrix.windows[window],
            version=version,
            probe=probed,
            rows=self.matrix.counts[window],
            champion_loss=champion_loss,
            other_loss=other_loss,
            difference=difference,
        )
        self.account = self.account.model_copy(update={"challengers": (*self.account.challengers, entry)})

    def _challenger(self, moment: Moment) -> Compared | None:
        window, matrix = moment.labelled, self.matrix
        ready = [one for one in self.challengers if matrix.may_judge(one, window)]
        difference = matrix.excess(moment.champion, ready[-1], window) if ready else None
        if difference is None:
            return None
        losses = matrix.losses[:, window]
        return Compared(ready[-1], float(losses[moment.champion]), float(losses[ready[-1]]), difference)

    def _probe(self, moment: Moment) -> Compared | None:
        matrix, champion, window = self.matrix, moment.champion, moment.labelled
        if matrix.probes is None or matrix.cell(champion, window) is None:
            return None
        difference = matrix.probes(champion, window)
        if difference is None:
            return None
        loss = float(matrix.losses[champion, window])
        return Compared(champion, loss, loss / (1 + difference.excess / FACTOR), difference)

    def _findings(self, moment: Moment) -> Findings:
        """What the monitor would have measured of the champion; a window that cannot be judged has no rows."""
        window, cell = self.matrix.windows[moment.drifted], self.matrix.cell(moment.champion, moment.drifted)
        if cell is None:
            return Findings(window=window, rows=0)
        late = {signal.name for signal in signals_of(self.spec.task) if signal.needs_labels and self.matrix.lag}
        rows = self.matrix.counts[moment.drifted]
        return Findings(
            window=window,
            rows=rows,
            labelled=0 if self.matrix.lag else rows,
            values={name: value for name, value in cell.signals.items() if name not in late},
            bounds=self.bounds(moment.champion),
            age=self._age(moment, moment.champion),
        )

    def _newest_age(self, moment: Moment) -> timedelta:
        return self._age(moment, max([moment.champion, *self.challengers]))

    def _age(self, moment: Moment, model: int) -> timedelta:
        """From a model's newest training row to the end of the window that is closed."""
        newest = self.matrix.windows[model].start + self.matrix.ahead
        return max(self.matrix.windows[moment.drifted].end - newest, timedelta())


def _request(moment: Moment, cause: str) -> RetrainRequest:
    """The request that the monitor would remember."""
    window = moment.matrix.windows[moment.drifted]
    return RetrainRequest.model_validate(
        {
            "model": "backtest",
            "version": moment.champion,
            "window_start": window.start,
            "window_end": window.end,
            "cause": cause,
            "reason": cause,
            "event_id": f"{moment.boundary}",
        }
    )
