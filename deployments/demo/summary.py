"""The summary of a demo: every figure counted from the evidence, and what a good run must show. Pure functions of values."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from deployments.demo.evidence import REFUSALS, Evidence, gate_event, replacements
from deployments.replay.frozen_baseline import mean_of
from monitoring.events import CHALLENGER_DUE, DRIFT_DETECTED, MODEL_ROLLED_BACK, PERFORMANCE_DEGRADED, PROMOTION_DUE
from perennial.model_card import ModelCard
from perennial.registry import CHAMPION


@dataclass(frozen=True)
class VersionSummary:
    """One version: why it was trained, on how many rows, what the gate said, since when (event time) it answered.

    `auc_before` and `auc_after` are over the rows it answered: its predecessor's, had it stayed, and its own.
    """

    version: int
    cause: str
    decision: str
    promoted_at: datetime | None
    train_rows: int
    gate: str
    auc_before: float | None
    auc_after: float | None


def summarise(evidence: Evidence, peak_memory_mb: float, wall_time: timedelta) -> dict[str, Any]:
    """The document summary.json, counted from the evidence; memory and time are what the driver's own process measured.

    Metrics are means over the windows with enough labelled rows; `pooled_*` are over all rows at once.
    """
    events = [event.name for event in evidence.events]
    return {
        "requests_sent": evidence.sent.requests,
        "requests_failed": evidence.sent.failed,
        "predictions_answered": evidence.sent.predictions,
        "predictions_counted_by_service": evidence.service.predictions,
        "predictions_archived": evidence.counts.predictions,
        "labels_sent": evidence.sent.labels,
        "labels_counted_by_service": evidence.service.labels,
        "labels_joined": evidence.counts.joined,
        "windows": len(evidence.windows),
        "drift_events": events.count(DRIFT_DETECTED),
        "performance_events": events.count(PERFORMANCE_DEGRADED),
        "challenger_events": events.count(CHALLENGER_DUE),
        "promotion_events": events.count(PROMOTION_DUE),
        "retrain_runs": len(evidence.retrains),
        "retrain_runs_started_by_automation": sum(run.automated for run in evidence.retrains),
        "promote_runs": len(evidence.promotes),
        "promotions": len(replacements(evidence.moves)),
        "refusals": sum(name in REFUSALS for name in events),
        "rollbacks": events.count(MODEL_ROLLED_BACK),
        "versions": summarise_versions(evidence),
        **_qualities(evidence),
        **_reactions(evidence),
        "peak_memory_mb": round(peak_memory_mb, 1),
        "wall_s": round(wall_time.total_seconds(), 1),
        "problems": evidence.problems,
    }


def _qualities(evidence: Evidence) -> dict[str, float | None]:
    compared = {"": list(evidence.comparisons.values()), "pooled_": [evidence.pooled] if evidence.pooled else []}
    return {
        f"{prefix}{name}_{side}": mean_of(comparisons, side, metric)
        for prefix, comparisons in compared.items()
        for name, metric in (("auc", "auc"), ("logloss", "log_loss"))
        for side in ("static", "loop")
    }


def _reactions(evidence: Evidence) -> dict[str, Any]:
    """From each event to the start of its run, and from each promotion, the first included, until the last worker answered."""
    occurred = {event.id: event.occurred for event in evidence.events}
    runs, moves = evidence.retrains, [move for move in evidence.moves if move.alias == CHAMPION]
    starts = [run.started - occurred[run.event_id] for run in runs if run.started and run.event_id in occurred]
    served = [at - move.at for move in moves if (at := evidence.swaps.get(move.version or 0))]
    spans = {"event_to_retrain_start_s": starts, "promotion_to_serving_s": served}
    seconds = {name: [round(span.total_seconds(), 3) for span in found] for name, found in spans.items()}
    return {name: {"each": each, "median": round(median(each), 3) if each else None} for name, each in seconds.items()}


def find_losses(evidence: Evidence) -> list[str]:
    """What went missing; empty when nothing did."""
    sent, counts, runs = evidence.sent, evidence.counts, [*evidence.retrains, *evidence.promotes]
    pairs = (
        ("requests_failed is {}", sent.failed, 0),
        ("predictions_archived is {}, but {} were answered", counts.predictions, sent.predictions),
        ("labels_joined is {}, but {} were sent", counts.joined, sent.labels),
        ("{} of {} trainings and promotions were started by an automation", sum(run.automated for run in runs), len(runs)),
    )
    return [text.format(found, expected) for text, found, expected in pairs if found != expected]


def unmet_goals(evidence: Evidence) -> list[str]:
    """What a whole year must show beyond losing nothing; empty when it does."""
    loop, static = (mean_of(evidence.comparisons.values(), side, "auc") for side in ("loop", "static"))
    goals = {
        "no retraining was started by an automation": any(run.automated for run in evidence.retrains),
        "no retrained version was promoted": bool(replacements(evidence.moves)),
        f"auc_loop is {loop}, not above auc_static, {static}": loop is not None and static is not None and loop > static,
    }
    return [text for text, holds in goals.items() if not holds]


def summarise_versions(evidence: Evidence) -> list[VersionSummary]:
    """What became of each version, the first one included."""
    return [_version_summary(card, evidence) for card in evidence.cards]


def _version_summary(card: ModelCard, evidence: Evidence) -> VersionSummary:
    decided, comparison = gate_event(card.version, evidence.events), evidence.version_comparisons.get(card.version)
    decision = "promoted" if card.version in dict(replacements(evidence.moves)) else "challenger"
    if decided is not None:
        decision = REFUSALS.get(decided.name, decision)
    return VersionSummary(
        version=card.version,
        cause=card.cause.kind,
        decision=decision if card.parent is not None else "first",
        promoted_at=evidence.first_served.get(card.version),
        train_rows=card.data.rows,
        gate=str(decided.payload.get("reason", "")) if decided else "",
        auc_before=comparison.static.values.get("auc") if comparison else None,
        auc_after=comparison.loop.values.get("auc") if comparison else None,
    )
