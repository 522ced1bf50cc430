"""Diagnosis: which kind of change a window shows, and the features that drive it.

What was measured goes in, one word with its reason comes out; pure. In order: broken data, which explains everything else; a
performance signal over its bound, where the loss that the champion's own confidence expected tells covariate drift (the rows
became harder), and the loss of scores moved to the labels' base rate tells prior shift, so that concept drift is left; drift
alone; a newer model that is better on the same rows though nothing is over a bound, which learnt from more rows; and noise.
"""

from collections.abc import Mapping
from typing import Literal

from monitoring.avoidable_loss import ExcessLoss
from monitoring.policy import Findings, broken_data, broken_features
from perennial.base import FrozenModel
from perennial.spec import ModelSpec

Kind = Literal["broken data", "covariate drift", "prior shift", "concept drift", "growth of data", "noise"]

DRIVERS = 3
"""Features named at most, those that drive the change most first."""

SIGNIFICANT = 2.0
"""Standard errors by which a newer model must be better on the same rows for it to count."""


class Diagnosis(FrozenModel):
    """What kind of change a window shows, why that is thought, and which features drive it."""

    kind: Kind
    reason: str
    features: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The diagnosis in one line."""
        return f"{self.kind}: {self.reason}" + (f" ({', '.join(self.features)})" if self.features else "")


def diagnose(
    findings: Findings,
    spec: ModelSpec,
    contributions: Mapping[str, float],
    error_structure: Mapping[str, float],
    excess: ExcessLoss | None = None,
) -> Diagnosis:
    """Diagnose a window.

    `contributions` are the features' shares of the drift, `error_structure` as `monitoring.measurement` has it; `excess` is the
    champion's loss beyond that of a newer model on the same rows, where there is one.
    """
    if reason := broken_data(findings, spec):
        rises = {name: rise for features in broken_features(findings, spec).values() for name, rise in features.items()}
        return Diagnosis(kind="broken data", reason=reason, features=_largest(rises))
    alarms = {signal.cause for signal in findings.alarmed(spec)}
    if "performance" in alarms:
        return _of_performance(findings, spec, "drift" in alarms, _largest(contributions), _largest(error_structure))
    if "drift" in alarms:
        reason = "the features have moved, and performance is not known to have suffered"
        return Diagnosis(kind="covariate drift", reason=reason, features=_largest(contributions))
    if excess is not None and excess.excess > SIGNIFICANT * excess.error:
        reason = f"nothing is over its bound, and the champion loses {excess.excess:.1%} more than a newer model on the same rows"
        return Diagnosis(kind="growth of data", reason=reason)
    return Diagnosis(kind="noise", reason="nothing is over its bound" if findings.bounds else "no signal has a bound")


def _of_performance(
    findings: Findings, spec: ModelSpec, drifted: bool, moved: tuple[str, ...], erring: tuple[str, ...]
) -> Diagnosis:
    """Why performance is over a bound. A regression has no confidence: where its features drifted too, that is the cause."""
    bound, expected, repaired = findings.bounds.get("loss"), findings.expected_loss, findings.moved_loss
    if expected is not None and bound is not None and expected > bound:
        reason = f"the rows became harder, as the champion's own confidence says: it expected a loss of {expected:.4g}"
        return Diagnosis(kind="covariate drift", reason=reason, features=moved)
    if bound is not None and repaired is not None and findings.values.get("loss", bound) > bound >= repaired:
        reason = f"with scores moved to the labels' base rate the loss would be {repaired:.4g}, within its bound"
        return Diagnosis(kind="prior shift", reason=reason, features=(spec.target,))
    if drifted and expected is None:
        return Diagnosis(kind="covariate drift", reason="the features have moved, and the loss with them", features=moved)
    reason = "the same inputs have other answers: neither harder rows nor another base rate explains the loss"
    return Diagnosis(kind="concept drift", reason=reason, features=erring)


def _largest(weights: Mapping[str, float]) -> tuple[str, ...]:
    moved = [name for name, weight in weights.items() if weight > 0]
    return tuple(sorted(moved, key=lambda name: (-weights[name], name))[:DRIVERS])
