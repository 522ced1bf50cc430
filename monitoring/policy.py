"""The policy: findings about one window and the last request go in, one decision comes out.

Pure: no clock, no files, no messages. Everything a decision depends on is in its arguments.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from monitoring.retrain_requests import RetrainRequestState
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.signals import SIGNALS, Bounds, Signal, SignalValues, signals_of
from perennial.spec import ModelSpec

Kind = Literal["none", "drift", "performance", "age", "data"]

MIN_COVERAGE = 0.9
"""Share of a window that the log must reach over: a week that began on Friday is no week to compare."""

MAX_TRAINED_ON_SHARE = 0.5
"""Share of a window that the champion may have been trained on and still be judged by it."""

LONGEST_TRAINING = timedelta(hours=1)
"""Wall time in which a request is settled, if at all: what takes longer has been killed or lost. Trainings take minutes;
one that really takes longer is requested again by the next window, and that is declined once a newer version serves."""


class Findings(FrozenModel):
    """What was measured about the champion on one window; `values` has no entry for a signal that could not be measured."""

    window: Window
    rows: int
    labelled: int = 0
    coverage: float = Field(1.0, description="share of the window that the prediction log reaches over")
    trained_on_share: float = Field(0.0, description="share of the rows no newer than the champion's newest training row")
    values: SignalValues = Field(default_factory=dict)
    bounds: Bounds = Field(default_factory=dict)
    age: timedelta = timedelta()
    null_increases: dict[str, float] = Field(default_factory=dict)
    unreadable_share: float = Field(0.0, description="of the stream's entries since the window before")

    @property
    def labelled_share(self) -> float:
        """Labelled rows over rows."""
        return self.labelled / self.rows if self.rows else 0.0

    @property
    def shown(self) -> tuple[Signal, ...]:
        """The signals that have a value or a bound here."""
        return tuple(signal for signal in SIGNALS if signal.name in self.values or signal.name in self.bounds)

    def alarms(self, signal: Signal) -> bool:
        """Whether the signal was measured, has a bound and lies on the wrong side of it."""
        value, bound = self.values.get(signal.name), self.bounds.get(signal.name)
        return value is not None and bound is not None and signal.alarms(value, bound)


class Decision(FrozenModel):
    """The one decision about a window. `kind` other than "none" means an event is due."""

    kind: Kind
    reason: str
    event_id: str | None = None
    in_cooldown: bool = False

    @property
    def requests_retraining(self) -> bool:
        """Whether its event asks for a retraining; an alert about data does not."""
        return self.kind not in ("none", "data")


def decide(
    findings: Findings, last: RetrainRequestState | None, spec: ModelSpec, without_outcome: timedelta = timedelta()
) -> Decision:
    """Broken data before performance before drift before age; none during the cooldown of the last request.

    `without_outcome` is how long ago, in wall time, that request was sent if it has no outcome yet.
    """
    if (excuse := _unjudgeable(findings, spec)) is not None:
        return Decision(kind="none", reason=excuse)
    if (broken := _broken(findings, spec)) is not None:
        return Decision(kind="data", reason=broken)
    kind, reason = next(_alarms(findings, spec), ("none", _within_bounds(findings, spec)))
    until = cooldown_end(last, spec, without_outcome)
    if kind != "none" and until is not None and findings.window.end <= until:
        reason = f"{reason}; quiet until {until:%Y-%m-%d %H:%M} after the last request"
        return Decision(kind="none", reason=reason, in_cooldown=True)
    return Decision(kind=kind, reason=reason)


def cooldown_end(last: RetrainRequestState | None, spec: ModelSpec, without_outcome: timedelta) -> datetime | None:
    """Windows that end by then request nothing, whichever version is champion by now.

    A request that had no outcome for LONGEST_TRAINING has no cooldown.
    """
    if last is None or without_outcome > LONGEST_TRAINING:
        return None
    return last.request.window_end + spec.cooldown


def _unjudgeable(findings: Findings, spec: ModelSpec) -> str | None:
    if findings.rows == 0:
        return "no predictions in this window: if that is a surprise, see whether clients still reach the service"
    if findings.coverage < MIN_COVERAGE:
        return f"the prediction log covers only {findings.coverage:.0%} of this window"
    if findings.trained_on_share > MAX_TRAINED_ON_SHARE:
        return f"the champion was trained on {findings.trained_on_share:.0%} of this window"
    if findings.rows < spec.window.min_rows:
        return f"{findings.rows} rows are fewer than window.min_rows = {spec.window.min_rows}"
    return None


def _broken(findings: Findings, spec: ModelSpec) -> str | None:
    most = spec.signals.max_null_increase
    if findings.unreadable_share > most:
        return f"{findings.unreadable_share:.0%} of the stream's entries were unreadable; see the dead stream"
    worst = sorted(findings.null_increases.items(), key=lambda item: (-item[1], item[0]))
    names = ", ".join(f"{name} +{rise:.0%}" for name, rise in worst if rise > most)
    if not names:
        return None
    return f"null share rose by more than {most:.0%}: {names}; mend the source, a retraining would learn the gap"


def _alarms(findings: Findings, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    for cause in ("performance", "drift"):
        for signal in spec.enabled_signals:
            if signal.cause == cause and _judgeable(signal, findings, spec) and findings.alarms(signal):
                yield cause, signal.describe_alarm(findings.values[signal.name], findings.bounds[signal.name])
    max_age = spec.signals.max_age
    if max_age is not None and findings.age > max_age:
        yield "age", f"the champion's newest training row is {format_duration(findings.age)} old, over {format_duration(max_age)}"


def _judgeable(signal: Signal, findings: Findings, spec: ModelSpec) -> bool:
    enough = findings.labelled > 0 and findings.labelled_share >= spec.window.label_share
    return enough or not signal.needs_labels


def _within_bounds(findings: Findings, spec: ModelSpec) -> str:
    measured = [signal for signal in signals_of(spec.task) if signal.name in findings.values]
    parts = [signal.describe(findings.values[signal.name], findings.bounds.get(signal.name)) for signal in measured]
    return "within bounds: " + ", ".join(parts) if parts else "nothing to judge by"
