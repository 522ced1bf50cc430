"""The policy: findings about one window, the champion's account and the last request go in, one decision comes out.

Findings say when to look: they ask for a training, which makes a challenger. The account says what pays: it asks for a promotion.
Arithmetic over values only, without clock, files or messages, so every run that looks decides alike.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from monitoring.champion_account import AccountStatement
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.signals import SIGNALS, Bounds, Signal, SignalValues, signals_of
from perennial.spec import ModelSpec

Cause = Literal["drift", "performance", "challenger", "promotion", "age", "rollback", "data"]
Kind = Literal["none", Cause]
Flow = Literal["retrain", "promote"]

PROMOTIONS: tuple[Cause, ...] = ("promotion", "age")
"""Causes whose event starts a promotion; that of the others starts a training, but for `data` and `rollback`."""

LEAST_CHAMPION_BETTER = 0.1
"""P(the champion is better than its predecessor) under which the predecessor comes back, in the windows of the probation."""

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
    """The payload of an event about a window: which champion it is about, why, and what was measured.

    It asks for a training, or, where the cause is one of PROMOTIONS, for a promotion; a rollback is the monitor's own to do.
    """

    model: str
    version: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    cause: Cause
    reason: str
    evidence: dict[str, float | str] = Field(default_factory=dict)
    report: str | None = None
    event_id: str

    @property
    def window(self) -> Window:
        """The window that it is about."""
        return Window(start=self.window_start, end=self.window_end)


class Decision(FrozenModel):
    """The one decision about a window. `kind` other than "none" means an event is due."""

    kind: Kind
    reason: str
    event_id: str | None = None
    in_cooldown: bool = False

    @property
    def flow(self) -> Flow | None:
        """The flow that its event starts; an alert about data starts none, and a rollback needs none."""
        if self.kind in ("none", "data", "rollback"):
            return None
        return "promote" if self.kind in PROMOTIONS else "retrain"


def decide(
    findings: Findings,
    last: RetrainRequest | None,
    spec: ModelSpec,
    without_outcome: timedelta = timedelta(),
    account: AccountStatement | None = None,
) -> Decision:
    """Broken data before a rollback before a promotion before a training; of those performance before drift before `every`.

    Windows that end in the cooldown of the last request start no flow, whichever version is champion by now, but a promotion
    waits for earlier promotions only. `without_outcome` is how long ago, in wall time, that request was sent if it has no
    outcome yet; after LONGEST_TRAINING it has no cooldown. Without an account findings alone decide.
    """
    if (excuse := unjudgeable(findings, spec)) is not None:
        return Decision(kind="none", reason=excuse)
    if (broken := broken_data(findings, spec)) is not None:
        return Decision(kind="data", reason=broken)
    kind, reason = next(_due(findings, account, spec), ("none", _within_bounds(findings, spec)))
    if account is not None and kind not in PROMOTIONS:
        reason = f"{reason}; {account}"
    if findings.unknown_labels:
        names = ", ".join(f"{name!r} {count}" for name, count in findings.unknown_labels.items())
        reason = f"{reason}; labels of classes that the champion does not know: {names:.300}"
    quiet = _cooldown_end(kind, last, spec) if without_outcome <= LONGEST_TRAINING else None
    if quiet is not None and findings.window.end <= quiet:
        reason = f"{reason}; quiet until {quiet:%Y-%m-%d %H:%M} after the last request"
        return Decision(kind="none", reason=reason, in_cooldown=True)
    return Decision(kind=kind, reason=reason)


def unjudgeable(findings: Findings, spec: ModelSpec) -> str | None:
    """Why nothing can be said about the champion on this window; None where something can."""
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


def _due(findings: Findings, account: AccountStatement | None, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    """What the window gives reason for, the most urgent first."""
    if account is not None and spec.policy.promote != "manual":
        yield from _rollback(account)
    if account is not None and spec.policy.promote == "avoidable":
        yield from _promotion(findings, account, spec)
    yield from _age(findings, account, spec)
    for cause in ("performance", "drift"):
        if cause in spec.policy.train_on:
            yield from ((cause, reason) for reason in _alarms(findings, spec, cause))
    if account is not None and "every" in spec.policy.train_on:
        yield from _every(findings.age, account, spec)


def _rollback(account: AccountStatement) -> Iterator[tuple[Kind, str]]:
    chance, other = account.champion_better, account.predecessor
    if chance is not None and other is not None and chance < LEAST_CHAMPION_BETTER:
        yield (
            "rollback",
            f"version {account.champion} is better than version {other.version}, which it replaced, with P = {chance:.2g}",
        )


def _promotion(findings: Findings, account: AccountStatement, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    """Where labels come the account promotes, and where they do not, drift alone."""
    if account.due:
        yield "promotion", f"{account}, and {account.expected:.3g} expected of the next window"
    if account.never_labelled or account.unlabelled > spec.policy.unlabelled_windows:
        gone = "no label has ever come" if account.never_labelled else f"labels are missing for {account.unlabelled} windows"
        alarms = _alarms(findings, spec, "drift")
        yield from (("promotion", f"{reason}; {gone}, so drift promotes what the guardrails let pass") for reason in alarms)


def _age(findings: Findings, account: AccountStatement | None, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    """The champion that is too old is replaced; where a person promotes, the newest version is followed by a challenger."""
    by_hand, limit = spec.policy.promote == "manual", spec.signals.max_age
    age = account.newest_age if by_hand and account is not None else findings.age
    if "age" in spec.policy.train_on and limit is not None and age > limit:
        what = "newest version's" if by_hand else "champion's"
        reason = f"the {what} newest training row is {format_duration(age)} old, over {format_duration(limit)}"
        yield "challenger" if by_hand else "age", reason


def _every(champion_age: timedelta, account: AccountStatement, spec: ModelSpec) -> Iterator[tuple[Kind, str]]:
    """Where challengers are compared, waits double after a promotion up to `policy.every`: a fast decay is seen soon.

    Whole windows count: a training that waited for labels knows a little of the window in which it ran.
    """
    windows = round(account.newest_age / spec.window.length)
    between = round((champion_age - account.newest_age) / spec.window.length)
    wait = min(spec.policy.every, max(1, between)) if spec.policy.promote == "avoidable" else spec.policy.every
    if windows >= wait:
        yield "challenger", f"the newest version was trained {windows} windows ago, and another is due after {wait}"


def _alarms(findings: Findings, spec: ModelSpec, cause: Literal["drift", "performance"]) -> Iterator[str]:
    for signal in findings.alarmed(spec):
        if signal.cause == cause:
            yield signal.describe_alarm(findings.values[signal.name], findings.bounds[signal.name])


def _cooldown_end(kind: Kind, last: RetrainRequest | None, spec: ModelSpec) -> datetime | None:
    """When the cooldown ends; what comes every so many windows has its period in the spec, and a rollback waits for nothing."""
    unbound = kind in ("none", "rollback", "challenger")
    if last is None or unbound or (kind in PROMOTIONS and last.cause not in PROMOTIONS):
        return None
    return last.window_end + spec.cooldown


def _within_bounds(findings: Findings, spec: ModelSpec) -> str:
    measured = [signal for signal in signals_of(spec.task) if signal.name in findings.values]
    parts = [signal.describe(findings.values[signal.name], findings.bounds.get(signal.name)) for signal in measured]
    return "within bounds: " + ", ".join(parts) if parts else "nothing to judge by"
