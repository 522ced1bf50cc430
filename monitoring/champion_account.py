"""The champion's account: what each closed window said of the champion beside other versions, kept until another one serves.

Values only: `monitoring.shadowing` makes entries, `monitoring.policy` decides by the statement, `monitoring.state` keeps both.
"""

from datetime import timedelta

from pydantic import Field

from monitoring.avoidable_loss import Account, ExcessLoss
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.spec import ModelSpec
from perennial.spec_policy import Evidence

PROBATION = 4
"""Windows after a promotion in which the predecessor is scored too, and may come back."""


class PairedLoss(FrozenModel):
    """Champion and another model on the same labelled rows of one window, which neither was trained on."""

    window: Window
    version: int = Field(description="the other version: a challenger or the champion's predecessor; of a probe the champion's")
    probe: bool = Field(False, description="whether the other is a probe on top of the champion; its gain counts twice")
    rows: int
    champion_loss: float
    other_loss: float
    difference: ExcessLoss

    @property
    def other(self) -> str:
        """What the champion was compared with, where it was no predecessor."""
        return "a probe" if self.probe else f"challenger {self.version}"


class ChampionAccount(FrozenModel):
    """What is kept between windows about the champion of this version; a promotion or a rollback begins another one."""

    champion: int
    challengers: tuple[PairedLoss, ...] = Field((), description="comparisons with challengers, or with probes")
    predecessor: tuple[PairedLoss, ...] = ()
    waiting: tuple[Window, ...] = Field((), description="closed windows whose labels had not come, oldest first")

    @property
    def avoidable(self) -> Account:
        """The account of avoidable loss, against the newest challenger, or a probe, of each window."""
        return _summed(self.challengers)

    @property
    def regression(self) -> Account:
        """The same against the predecessor."""
        return _summed(self.predecessor)

    def statement(
        self, spec: ModelSpec, newest_age: timedelta, *, never_labelled: bool = False, promised: float | None = None
    ) -> "AccountStatement":
        """The account as a window's record has it; the three last are as the statement describes them."""
        account = self.avoidable
        return AccountStatement(
            champion=self.champion,
            windows=len(self.challengers),
            avoidable=account.avoidable,
            error=account.error,
            expected=account.expected,
            cost=spec.policy.cost,
            evidence=spec.policy.evidence,
            due=account.promotion_due(spec.policy.cost, spec.policy.z),
            newest=self.challengers[-1] if self.challengers else None,
            predecessor=self.predecessor[-1] if self.predecessor else None,
            champion_better=self.regression.champion_better if self.predecessor else None,
            promised=promised,
            turned_out=self.regression.avoidable / len(self.predecessor) if self.predecessor else None,
            unlabelled=len(self.waiting),
            never_labelled=never_labelled,
            newest_age=newest_age,
        )


class AccountStatement(FrozenModel):
    """The account after a window: what the newest challengers, or probes, would have saved since the champion's promotion.

    Losses are in units of one window's loss. `due` is whether that pays a promotion.
    """

    champion: int
    windows: int = Field(0, description="windows in the account")
    avoidable: float = 0.0
    error: float = 0.0
    expected: float = Field(0.0, description="what the next window would add")
    cost: float
    evidence: Evidence = Field("challenger", description="what the champion is compared with")
    due: bool = False
    newest: PairedLoss | None = Field(None, description="the newest window's comparison with its challenger, or a probe")
    predecessor: PairedLoss | None = Field(None, description="the newest comparison with the predecessor, in the probation")
    champion_better: float | None = Field(None, description="P(the champion is better than its predecessor), in the probation")
    promised: float | None = Field(None, description="relative change of the loss that the gate measured at the promotion")
    turned_out: float | None = Field(None, description="the same as the probation's windows have it, on average")
    unlabelled: int = Field(0, description="windows in a row, this one included, whose labels have not come")
    never_labelled: bool = Field(False, description="whether the log holds no label at all")
    newest_age: timedelta = Field(timedelta(), description="from the newest training row of any version to the window's end")

    def beside(self) -> str:
        """The newest comparison in one line; empty before the first."""
        if (one := self.newest) is None:
            return ""
        excess, error = one.difference.excess, one.difference.error
        losses = f"version {self.champion} lost {one.champion_loss:.4g}, {one.other} {one.other_loss:.4g}"
        return f"{losses} on {one.rows:,} rows ({excess:+.1%} ± {error:.1%})"

    def truth(self) -> str:
        """What the promotion promised and what it turned out to be; empty where there is neither."""
        if self.turned_out is None or self.predecessor is None:
            return ""
        promised = (
            "nothing was compared at its promotion" if self.promised is None else f"promised {self.promised:+.1%} of the loss"
        )
        return f"{promised}, turned out {self.turned_out:+.1%} beside version {self.predecessor.version}"

    def __str__(self) -> str:
        """The account in one line."""
        if not self.windows:
            return f"no {self.evidence} compared yet"
        pays = ", which pays a promotion" if self.due else ""
        return f"avoidable loss {self.avoidable:.3g} ± {self.error:.2g} of {self.cost:g} in {self.windows} windows{pays}"


def _summed(compared: tuple[PairedLoss, ...]) -> Account:
    return Account(entries=tuple(one.difference for one in compared))
