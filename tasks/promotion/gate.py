"""Gate: what keeps a challenger from serving is proof, not doubt.

Refusing a better model costs several times what promoting a worse one does, for the next promotion mends the latter. So a
challenger is refused where a guardrail is broken, or where it is better than the champion with a probability below
`gate.min_probability` on the newest rows. With too few of these it is promoted, and the reason says that nothing was compared.
"""

from typing import Any, Literal

import polars as pl
from pydantic import AwareDatetime

from monitoring.ledger import Outcome
from monitoring.measurement import loss_metric
from perennial.base import FrozenModel
from perennial.labels import LabelCodec
from perennial.model import Model
from perennial.spec import ModelSpec
from tasks.data.retraining_data import NewClass
from tasks.job import Job
from tasks.promotion.comparison import Comparison, Judged, compare
from tasks.promotion.guardrails import Guardrail, Inspected, check_guardrails
from tasks.task_defaults import local_task

Decision = Literal["promote", "hold", "reject"]

OUTCOMES: dict[Decision, Outcome] = {"promote": "promoted", "hold": "held", "reject": "rejected"}
"""What each decision is called once it has been carried out."""


class Verdict(FrozenModel):
    """The gate's decision and what it rests on; the metrics are None where nothing could be compared.

    `challenger` is the metric of the judge that stands for it, `probability` that of the judge being better than the champion.
    """

    decision: Decision
    reason: str
    metric: str
    challenger: float | None = None
    champion: float | None = None
    champion_version: int | None = None
    judge: str = ""
    probability: float | None = None
    rows: int = 0
    since: AwareDatetime | None = None
    guardrails: tuple[Guardrail, ...] = ()
    new_classes: tuple[NewClass, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The decision, as the receipt of a request to retrain has it."""
        return OUTCOMES[self.decision]

    @property
    def promised(self) -> float | None:
        """By how much of itself the loss is to change: negative is better."""
        return None if self.challenger is None or not self.champion else self.challenger / self.champion - 1

    @property
    def evidence(self) -> dict[str, Any]:
        """What the move of an alias keeps of it."""
        kept = {"metric", "challenger", "champion", "judge", "probability", "rows", "since"}
        broken = {one.name: one.broken for one in self.guardrails if one.broken}
        return {**self.model_dump(mode="json", include=kept), "promised": self.promised, "broken": broken}


@local_task("gate")
def gate(
    job: Job,
    challenger: Model,
    judge: Judged,
    champion: Model | None,
    rows: pl.DataFrame,
    *,
    new_classes: tuple[NewClass, ...] = (),
    by_person: bool = True,
) -> Verdict:
    """Decide about a challenger on rows that its judge and the champion have not learnt. Without a champion, guardrails alone.

    `new_classes` are those of the labels that the champion does not know; the verdict names them.
    """
    spec, metric = job.spec, loss_metric(job.spec)
    if champion is None:
        guardrails, reason = check_guardrails(Inspected(spec, challenger)), "the first model: nothing serves yet"
        return _decide(spec, Verdict(decision="promote", reason=reason, metric=metric, guardrails=guardrails), by_person=True)
    comparison = compare(spec, judge, champion, rows)
    seen = {"champion_version": champion.card.version, "rows": comparison.rows.height, "since": comparison.since}
    doubt = _cannot_compare(spec, comparison)
    guardrails = check_guardrails(Inspected(spec, challenger, champion, None if doubt else comparison))
    found = Verdict(decision="promote", reason=doubt or "", metric=metric, guardrails=guardrails, new_classes=new_classes)
    verdict = found.model_copy(update=seen if doubt else {**seen, **_compared(comparison)})
    return _decide(spec, verdict, by_person=by_person)


def _compared(comparison: Comparison) -> dict[str, Any]:
    new, old = comparison.losses()
    probability, gain = comparison.probability_better(), (old - new) / old if old else 0.0
    reason = (
        f"{comparison.metric} {new:.5g} against the champion's {old:.5g} ({gain:+.2%}) on {comparison.rows.height:,} rows since "
        f"{comparison.since:%Y-%m-%d %H:%M}, judged by {comparison.judge.name}; better with probability {probability:.2f}"
    )
    figures = {"challenger": new, "champion": old, "judge": comparison.judge.name, "probability": probability}
    return {**figures, "reason": reason}


def _decide(spec: ModelSpec, verdict: Verdict, *, by_person: bool) -> Verdict:
    """Proof and broken guardrails before the wish for a person's word."""
    decision, reason, least = verdict.decision, verdict.reason, spec.gate.min_probability
    proof = verdict.probability is not None and verdict.probability < least
    against = [f"less than gate.min_probability = {least:g}"] if proof else []
    against += [f"guardrail {one.name}: {one.broken}" for one in verdict.guardrails if one.broken]
    if against:
        decision, reason = "reject", "; ".join([reason, *against])
    elif spec.gate.require_approval and not by_person:
        decision, reason = "hold", f"{reason}; waits for `perennial approve`"
    return verdict.model_copy(update={"decision": decision, "reason": reason})


def _cannot_compare(spec: ModelSpec, comparison: Comparison) -> str | None:
    """Why the guardrails alone decide; None where the rows can be compared."""
    rows, least = comparison.rows, spec.gate.min_rows
    where = f"labelled rows since {comparison.since:%Y-%m-%d %H:%M}, newer than both trainings"
    unproven = "nothing was compared, the guardrails alone decide"
    if rows.height < least:
        return f"warning: {unproven}: only {rows.height:,} {where}; gate.min_rows asks for {least:,}"
    if spec.task != "regression" and LabelCodec(spec.task).parse_column(rows[spec.target]).n_unique() < 2:
        return f"warning: {unproven}: all {rows.height:,} {where}, have the same {spec.target}"
    return None
