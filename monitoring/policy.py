"""The policy: findings about one window and what was asked before go in, one decision comes out.

Pure: no clock, no files, no messages. Everything a decision depends on is in its arguments.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.model_card import Bounds
from perennial.spec import ModelSpec

Kind = Literal["none", "drift", "performance", "age", "data"]

LEAST_COVER = 0.9
"""Share of a window that the log must reach over: a week that began on Friday is no week to compare."""

MOST_SEEN = 0.5
"""Share of a window that the champion may have been trained on and still be judged by it."""


LONGEST_TRAINING = timedelta(hours=1)
"""Wall time in which a request is settled, if at all: what takes longer has been killed or lost. Trainings take minutes;
one that really takes longer is asked for again by the next window, and that is declined once a newer version serves."""


class Findings(FrozenModel):
    """What was measured about the champion on one window. A signal that could not be measured is None."""

    window: Window
    rows: int
    labelled: int = 0
    cover: float = 1.0
    seen: float = 0.0
    drift: float | None = None
    loss: float | None = None
    auc: float | None = None
    age: timedelta = timedelta()
    null_increases: dict[str, float] = Field(default_factory=dict)
    unreadable: float = 0.0
    bounds: Bounds = Bounds()

    @property
    def labelled_share(self) -> float:
        """Labelled rows over rows."""
        return self.labelled / self.rows if self.rows else 0.0


class Asked(FrozenModel):
    """The last request to retrain: when (the end of its window), about which champion, why."""

    at: AwareDatetime
    version: int
    cause: Kind


class Decision(FrozenModel):
    """The one decision about a window. `kind` other than "none" means an event is due."""

    kind: Kind
    reason: str
    event_id: str | None = None
    cooling: bool = False

    @property
    def asks(self) -> bool:
        """Whether it asks for a retraining."""
        return self.kind in ("drift", "performance", "age")


def decide(findings: Findings, asked: Asked | None, spec: ModelSpec, unsettled: timedelta = timedelta()) -> Decision:
    """Broken data before performance before drift before age; quiet during the cooldown of the last request.

    `unsettled` is how long ago, in wall time, that request was told if it has no outcome yet.
    """
    if (excuse := _unjudgeable(findings, spec)) is not None:
        return Decision(kind="none", reason=excuse)
    if (broken := _broken(findings, spec)) is not None:
        return Decision(kind="data", reason=broken)
    kind, reason = next(_signals(findings, spec), ("none", _fine(findings)))
    until = quiet_until(asked, spec, unsettled)
    if kind != "none" and until is not None and findings.window.end <= until:
        return Decision(kind="none", reason=f"{reason}; quiet until {until:%Y-%m-%d %H:%M} after the last request", cooling=True)
    return Decision(kind=kind, reason=reason)


def quiet_until(asked: Asked | None, spec: ModelSpec, unsettled: timedelta) -> datetime | None:
    """The end of the cooldown: windows that end by then ask for nothing, whoever is champion by now.

    A request that nothing came of keeps nobody quiet.
    """
    return asked.at + spec.cooldown if asked is not None and unsettled <= LONGEST_TRAINING else None


def after(asked: Asked | None, window: Window, decision: Decision, version: int) -> Asked | None:
    """The state after a decision: a request to retrain is remembered, an alert is not."""
    return Asked(at=window.end, version=version, cause=decision.kind) if decision.asks else asked


def _unjudgeable(findings: Findings, spec: ModelSpec) -> str | None:
    if findings.rows == 0:
        return "no predictions in this window: if that is a surprise, see whether clients still reach the service"
    if findings.cover < LEAST_COVER:
        return f"the prediction log covers only {findings.cover:.0%} of this window"
    if findings.seen > MOST_SEEN:
        return f"the champion was trained on {findings.seen:.0%} of this window"
    if findings.rows < spec.window.min_rows:
        return f"{findings.rows} rows are fewer than window.min_rows = {spec.window.min_rows}"
    return None


def _broken(findings: Findings, spec: ModelSpec) -> str | None:
    most = spec.signals.max_null_increase
    if findings.unreadable > most:
        return f"{findings.unreadable:.0%} of the stream's entries were unreadable; see the dead stream"
    worst = sorted(findings.null_increases.items(), key=lambda item: (-item[1], item[0]))
    names = ", ".join(f"{name} +{rise:.0%}" for name, rise in worst if rise > most)
    if not names:
        return None
    return f"null share rose by more than {most:.0%}: {names}; mend the source, a retraining would learn the gap"


def _signals(findings: Findings, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    yield from _performance(findings, spec)
    if spec.signals.drift and _above(findings.drift, findings.bounds.drift):
        yield "drift", f"drift {findings.drift:.4g} is over its bound {findings.bounds.drift:.4g}"
    max_age = spec.signals.max_age
    if max_age is not None and findings.age > max_age:
        yield "age", f"the champion's newest training row is {format_duration(findings.age)} old, over {format_duration(max_age)}"


def _performance(findings: Findings, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    if findings.labelled == 0 or findings.labelled_share < spec.window.label_share:
        return
    bounds = findings.bounds
    if spec.signals.loss and _above(findings.loss, bounds.loss):
        yield "performance", f"loss {findings.loss:.4g} is over its bound {bounds.loss:.4g}"
    # Below is above with both signs turned: one comparison, one treatment of what was not measured.
    if spec.signals.auc and findings.auc is not None and bounds.auc is not None and _above(-findings.auc, -bounds.auc):
        yield "performance", f"AUC {findings.auc:.4g} is under its bound {bounds.auc:.4g}"


def _above(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value > bound


def _fine(findings: Findings) -> str:
    parts = [
        f"{name} {value:.4g}" + (f" (bound {bound:.4g})" if bound is not None else " (no bound)")
        for name, value, bound in (
            ("drift", findings.drift, findings.bounds.drift),
            ("loss", findings.loss, findings.bounds.loss),
            ("AUC", findings.auc, findings.bounds.auc),
        )
        if value is not None
    ]
    return "within bounds: " + ", ".join(parts) if parts else "nothing to judge by"
