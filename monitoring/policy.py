"""The policy: findings about one window and the last request to retrain go in, one decision comes out.

It also says what is remembered of a request, and when that one is sent again. Arithmetic over values only, without clock,
files or messages, so every run that looks decides alike.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.signals import SIGNALS, Bounds, Signal, SignalValues, signals_of
from perennial.spec import ModelSpec

Cause = Literal["drift", "performance", "age", "data"]
Kind = Literal["none", Cause]

MIN_COVERAGE = 0.9
"""Share of a window that the log must reach over: a week that began on Friday is no week to compare."""

MAX_TRAINED_ON_SHARE = 0.5
"""Share of a window that the champion may have been trained on and still be judged by it."""

LONGEST_TRAINING = timedelta(hours=1)
"""Wall time in which a request is settled, if at all: what takes longer has been killed or lost. Trainings take minutes;
one that really takes longer is requested again by the next window, and that is declined once a newer version serves."""


FIRST_REMINDER = timedelta(seconds=60)
"""From an event to the acknowledgement: 8 s on quiet cores, nearly all of it two process starts; sent again sooner, an
event would be sent in vain whenever the machine is busy."""

LAST_REMINDER = timedelta(minutes=10)
"""Longest wait: a Prefect server that was away for hours hears of the request within this time of its return."""


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
    unseen_increases: dict[str, float] = Field(default_factory=dict, description="rise of the share of unknown categories")
    outside_increases: dict[str, float] = Field(
        default_factory=dict, description="rise of the share of numbers four standard deviations beyond the training's range"
    )
    asked_again: int = Field(0, description="rows whose id was asked about more than once")
    contradicted: int = Field(0, description="labelled rows of which an earlier label said otherwise; the latest counts")
    unknown_labels: dict[str, int] = Field(default_factory=dict, description="labels of classes that the champion does not know")
    unreadable_share: float = Field(0.0, description="of the stream's entries since the window before")
    means: tuple[float, float] | None = Field(None, description="of the labels (the base rate) and of the same rows' scores")
    expected_loss: float | None = Field(None, description="what the champion's calibrated confidence expects of all rows")
    moved_loss: float | None = Field(None, description="the loss of scores that are moved to the base rate of the labels")

    @property
    def shown(self) -> tuple[Signal, ...]:
        """The signals that have a value or a bound here."""
        return tuple(signal for signal in SIGNALS if signal.name in self.values or signal.name in self.bounds)

    def alarms(self, signal: Signal) -> bool:
        """Whether the signal was measured, has a bound and lies on the wrong side of it."""
        value, bound = self.values.get(signal.name), self.bounds.get(signal.name)
        return value is not None and bound is not None and signal.alarms(value, bound)

    def alarmed(self, spec: ModelSpec) -> tuple[Signal, ...]:
        """The enabled signals that alarm; of those that need labels only where enough rows have theirs."""
        enough = self.labelled > 0 and self.labelled >= spec.window.label_share * self.rows
        return tuple(one for one in spec.enabled_signals if (enough or not one.needs_labels) and self.alarms(one))


class RetrainRequest(FrozenModel):
    """The payload of an event about a window: which champion it is about, why, and what was measured."""

    model: str
    version: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    cause: Cause
    reason: str
    evidence: dict[str, float | str] = Field(default_factory=dict)
    report: str | None = None
    event_id: str


class RetrainRequestState(FrozenModel):
    """The last request to retrain as Prefect confirmed it, in wall time. When `closed`, it is not sent again."""

    request: RetrainRequest
    sent_at: AwareDatetime
    last_sent_at: AwareDatetime
    closed: bool = False

    def reminder_due(self, now: datetime) -> bool:
        """Whether to send it again now: after 60 s, then after waits that double, unless it is closed."""
        wait = min(max(self.last_sent_at - self.sent_at, FIRST_REMINDER), LAST_REMINDER)
        return not self.closed and now >= self.last_sent_at + wait


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

    Windows that end in the cooldown request nothing, whichever version is champion by now. `without_outcome` is how long ago,
    in wall time, that request was sent if it has no outcome yet; after LONGEST_TRAINING it has no cooldown.
    """
    if (excuse := _unjudgeable(findings, spec)) is not None:
        return Decision(kind="none", reason=excuse)
    if (broken := broken_data(findings, spec)) is not None:
        return Decision(kind="data", reason=broken)
    kind, reason = next(_alarms(findings, spec), ("none", _within_bounds(findings, spec)))
    if findings.unknown_labels:
        names = ", ".join(f"{name!r} {count}" for name, count in findings.unknown_labels.items())
        reason = f"{reason}; labels of classes that the champion does not know: {names:.300}"
    until = last.request.window_end + spec.cooldown if last and without_outcome <= LONGEST_TRAINING else None
    if kind != "none" and until is not None and findings.window.end <= until:
        reason = f"{reason}; quiet until {until:%Y-%m-%d %H:%M} after the last request"
        return Decision(kind="none", reason=reason, in_cooldown=True)
    return Decision(kind=kind, reason=reason)


def next_state(previous: RetrainRequestState | None, sent: RetrainRequest | None, now: datetime) -> RetrainRequestState | None:
    """What is remembered after a window: the request that was sent on its account; an alert about data asks for nothing."""
    if sent is None or sent.cause == "data":
        return previous
    return RetrainRequestState(request=sent, sent_at=now, last_sent_at=now)


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


def broken_features(findings: Findings, spec: ModelSpec) -> dict[str, dict[str, float]]:
    """What rose by more than the spec lets through, in words, and by how much in which features, the worst first.

    A feature that is a part of a date leaves its training's range and categories by itself.
    """
    signals, dated = spec.signals, {name for name, one in spec.features.items() if one.operation == "date_part"}
    unseen, outside = (
        {name: rise for name, rise in rises.items() if name not in dated}
        for rises in (findings.unseen_increases, findings.outside_increases)
    )
    limits = (
        ("null share", findings.null_increases, signals.max_null_increase),
        ("share of categories unknown to the training", unseen, signals.max_unseen_increase),
        ("share of values far outside the training's range", outside, signals.max_outside_increase),
    )
    return {
        f"{what} rose by more than {most:.0%}": dict(sorted(over.items(), key=lambda item: (-item[1], item[0])))
        for what, rises, most in limits
        if (over := {name: rise for name, rise in rises.items() if rise > most})
    }


def broken_data(findings: Findings, spec: ModelSpec) -> str | None:
    """What is broken about the window's data; None where nothing is."""
    if findings.unreadable_share > spec.signals.max_null_increase:
        return f"{findings.unreadable_share:.0%} of the stream's entries were unreadable; see the dead stream"
    found = broken_features(findings, spec)
    if not found:
        return None
    parts = (f"{what}: {', '.join(f'{name} +{rise:.0%}' for name, rise in rises.items())}" for what, rises in found.items())
    return f"{'; '.join(parts)}; mend the source, a retraining would learn it"


def _alarms(findings: Findings, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    for cause in ("performance", "drift"):
        for signal in findings.alarmed(spec):
            if signal.cause == cause:
                yield cause, signal.describe_alarm(findings.values[signal.name], findings.bounds[signal.name])
    max_age = spec.signals.max_age
    if max_age is not None and findings.age > max_age:
        yield "age", f"the champion's newest training row is {format_duration(findings.age)} old, over {format_duration(max_age)}"


def _within_bounds(findings: Findings, spec: ModelSpec) -> str:
    measured = [signal for signal in signals_of(spec.task) if signal.name in findings.values]
    parts = [signal.describe(findings.values[signal.name], findings.bounds.get(signal.name)) for signal in measured]
    return "within bounds: " + ", ".join(parts) if parts else "nothing to judge by"
