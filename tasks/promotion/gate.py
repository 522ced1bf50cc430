"""Gate: may the challenger replace the champion? Judged on labelled rows newer than anything either was trained on."""

import math
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl
from pydantic import AwareDatetime

from monitoring.receipts import Outcome
from perennial.base import FrozenModel
from perennial.labels import LabelCodec
from perennial.metrics import higher_is_better, score
from perennial.model import Model
from perennial.spec import ModelSpec
from tasks.data.retraining_data import NewClass
from tasks.job import Job
from tasks.task_defaults import local_task

Decision = Literal["promote", "hold", "reject"]

OUTCOMES: dict[Decision, Outcome] = {"promote": "promoted", "hold": "held", "reject": "rejected"}
"""What each decision is called once it has been carried out."""


class Verdict(FrozenModel):
    """The gate's decision and what it rests on; the metrics are None where nothing could be compared."""

    decision: Decision
    reason: str
    metric: str
    challenger: float | None = None
    champion: float | None = None
    champion_version: int | None = None
    rows: int = 0
    since: AwareDatetime | None = None
    new_classes: tuple[NewClass, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The decision, as the receipt of a request to retrain has it."""
        return OUTCOMES[self.decision]


@local_task("gate")
def gate(
    job: Job, challenger: Model, champion: Model | None, holdout: pl.DataFrame, new_classes: tuple[NewClass, ...] = ()
) -> Verdict:
    """Compare both models as they would serve. Without a champion the challenger is promoted unopposed.

    `new_classes` are those of the labels that the champion does not know; the verdict names them.
    """
    metric = job.spec.objective_metric
    if champion is None:
        return Verdict(decision="promote", reason="the first model: nothing serves yet", metric=metric)
    since = max(challenger.card.until, champion.card.until)
    newer = holdout.filter(pl.col(job.spec.event_time) > since)
    rows = newer.filter(LabelCodec(job.spec.task).parse_column(newer[job.spec.target]).is_not_null())
    if (excuse := _cannot_judge(job.spec, rows, since)) is not None:
        verdict = Verdict(decision="hold", reason=excuse, metric=metric)
    else:
        old, new = (measure(job.spec, model, rows) for model in (champion, challenger))
        decision, found = decide(metric, new, old, job.spec.gate.min_gain)
        reason = f"{found} on {rows.height:,} rows since {since:%Y-%m-%d %H:%M}, newer than both trainings"
        verdict = Verdict(decision=decision, reason=reason, metric=metric, challenger=new, champion=old)
    seen = {"champion_version": champion.card.version, "rows": rows.height, "since": since, "new_classes": new_classes}
    return verdict.model_copy(update=seen)


def decide(metric: str, challenger: float, champion: float, min_gain: float) -> tuple[Decision, str]:
    """Promote when the relative gain is positive and at least `min_gain`."""
    better = challenger - champion if higher_is_better(metric) else champion - challenger
    gain = better / abs(champion) if champion else math.copysign(math.inf, better) if better else 0.0
    text = f"{metric} {challenger:.5g} against the champion's {champion:.5g} ({gain:+.2%})"
    if better > 0 and gain >= min_gain:
        return "promote", text
    return "reject", text + (f", less than the {min_gain:.2%} asked for" if better > 0 else ", no better")


def measure(spec: ModelSpec, model: Model, rows: pl.DataFrame) -> float:
    """The spec's metric of a model on labelled rows; a class it does not know has probability 0."""
    codes = model.label_codec.encode_column(rows[spec.target])
    return score(spec.task, codes, np.asarray(model.predict_frame(rows))).values[spec.objective_metric]


def _cannot_judge(spec: ModelSpec, rows: pl.DataFrame, since: datetime) -> str | None:
    where = f"labelled rows since {since:%Y-%m-%d %H:%M}, newer than both trainings"
    if rows.height < spec.gate.min_rows:
        return f"only {rows.height:,} {where}; gate.min_rows asks for {spec.gate.min_rows:,}"
    if spec.task != "regression" and LabelCodec(spec.task).parse_column(rows[spec.target]).n_unique() < 2:
        return f"all {rows.height:,} {where}, have the same {spec.target}: nothing can be compared"
    return None
