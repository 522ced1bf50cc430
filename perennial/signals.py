"""Signals: what the monitor may alarm on, as one table.

Every part that deals with a signal goes through SIGNALS and names none: the keys of `[signals]` in the spec, calibration, the
bounds on a model's card, the policy, an event's evidence, the window results, artifacts, the live display and the generated
reference. So a new signal is one more entry here (tests/monitoring/test_signals.py adds one and follows it through).

The age of the champion and broken data are no signals: they have no calibrated bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

if TYPE_CHECKING:
    from perennial.arrays import Floats

Bounds = dict[str, float]  # by signal: from where on its value asks for a retraining. One that is absent never alarms
SignalValues = dict[str, float]  # by signal: what was measured. A signal that is absent could not be measured


@dataclass(frozen=True, slots=True)
class SignalInput:
    """What is known about the rows of a window, or of a calibration block, before any signal: a measure reads it.

    `labels` (n,) are codes as `perennial.labels` makes them, NaN where the truth has not come; `scores`, (n,) or (n, classes),
    are the judged model's own for the same rows. `metrics` are those of the labelled rows, empty where there are none;
    `loss_metric` is the one among them that the model minimises. `drift` is the total of `distances`, weighted by importance.
    """

    loss_metric: str
    drift: float | None
    distances: Mapping[str, float]
    metrics: Mapping[str, float]
    labels: "Floats"
    scores: "Floats"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal: how it is measured, when it alarms, and how it is shown.

    `about` and `about_bound` describe its two keys in the spec, `{name} = true` and `{name}_bound`; `limits` are the bounds
    of that bound, as pydantic's `Field` takes them. It is measured for `tasks` only, and judged only where enough rows have
    their labels if it `needs_labels`. One that is not `enabled` is measured and shown beside its bound, and asks for nothing
    unless the spec says so.
    """

    name: str
    label: str
    measure: Callable[[SignalInput], float | None]
    alarms_when: Literal["above", "below"]
    cause: Literal["drift", "performance"]
    needs_labels: bool
    about: str
    about_bound: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    tasks: frozenset[str] = frozenset({"binary", "multiclass", "regression"})

    @property
    def bound_key(self) -> str:
        return f"{self.name}_bound"

    def alarms(self, value: float, bound: float) -> bool:
        """Whether the value lies on the wrong side of the bound; a value equal to it does not."""
        return value > bound if self.alarms_when == "above" else value < bound

    def describe_alarm(self, value: float, bound: float) -> str:
        """The reason an alarm gives: `drift 0.2 is over its bound 0.1`."""
        side = "over" if self.alarms_when == "above" else "under"
        return f"{self.label} {value:.4g} is {side} its bound {bound:.4g}"

    def describe(self, value: float, bound: float | None) -> str:
        """The value beside its bound: `drift 0.05 (bound 0.1)`."""
        return f"{self.label} {value:.4g}" + (" (no bound)" if bound is None else f" (bound {bound:.4g})")


def _calibration(rows: SignalInput) -> float | None:
    from perennial.metrics import calibration_error

    return calibration_error(*_labelled(rows)) if rows.metrics else None


def _base_rate(rows: SignalInput) -> float | None:
    from perennial.metrics import base_rate_shift

    return base_rate_shift(*_labelled(rows)) if rows.metrics else None


def _labelled(rows: SignalInput) -> "tuple[Floats, Floats]":
    known = rows.labels == rows.labels  # a label that has not come is NaN
    return rows.labels[known], rows.scores[known]


SIGNALS: tuple[Signal, ...] = (
    Signal(
        name="drift",
        label="drift",
        measure=lambda rows: rows.drift,
        alarms_when="above",
        cause="drift",
        needs_labels=False,
        about="importance-weighted distance of the features from their training",
        about_bound="largest drift taken as ordinary",
        limits={"gt": 0},
    ),
    Signal(
        name="loss",
        label="loss",
        measure=lambda rows: rows.metrics.get(rows.loss_metric),
        alarms_when="above",
        cause="performance",
        needs_labels=True,
        about="the labelled loss: log loss, or RMSE",
        about_bound="largest loss taken as ordinary",
    ),
    Signal(
        name="auc",
        label="AUC",
        measure=lambda rows: rows.metrics.get("auc"),
        alarms_when="below",
        cause="performance",
        needs_labels=True,
        about="the labelled AUC; binary models only",
        about_bound="least AUC taken as ordinary",
        limits={"ge": 0, "le": 1},
        tasks=frozenset({"binary"}),
    ),
    Signal(
        name="calibration",
        label="calibration error",
        measure=_calibration,
        alarms_when="above",
        cause="performance",
        needs_labels=True,
        about="distance of the labels from the scores, in ten bins of scores; the loss has it in it already",
        about_bound="largest calibration error taken as ordinary",
        limits={"ge": 0},
        enabled=False,
    ),
    Signal(
        name="base_rate",
        label="base rate shift",
        measure=_base_rate,
        alarms_when="above",
        cause="performance",
        needs_labels=True,
        about="distance of the labels' base rate (or mean) from that of the scores; the loss has it in it already",
        about_bound="largest base rate shift taken as ordinary",
        limits={"ge": 0},
        enabled=False,
    ),
)
"""All signals, in the order in which they are shown."""


def signals_of(task: str) -> tuple[Signal, ...]:
    return tuple(signal for signal in SIGNALS if task in signal.tasks)


def spec_fields() -> dict[str, Any]:
    """The signals' keys in the spec, as pydantic's `create_model` takes them: all switches, then all bounds."""
    switches = {signal.name: (bool, Field(signal.enabled, description=signal.about)) for signal in SIGNALS}
    bounds = {one.bound_key: (float | None, Field(None, description=one.about_bound, **one.limits)) for one in SIGNALS}
    return switches | bounds


def measure_signals(task: str, rows: SignalInput) -> SignalValues:
    measured = ((signal.name, signal.measure(rows)) for signal in signals_of(task))
    return {name: value for name, value in measured if value is not None}
