"""The summary of a demo: every figure counted from the evidence, and what a good run must show. Pure functions of values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median

import orjson
from pydantic import AwareDatetime

from deployments.demo.evidence import REFUSALS, Evidence, gate_event, replacements
from deployments.demo.frozen_baseline import mean_of
from deployments.prefect_client.client import FlowRun, PrefectEvent
from monitoring.events import DRIFT_DETECTED, PERFORMANCE_DEGRADED
from perennial.base import FrozenModel
from perennial.model_card import ModelCard
from perennial.registry import CHAMPION, Move


class Timing(FrozenModel):
    """Seconds, in the order in which they happened, and their median."""

    each: tuple[float, ...]
    median: float | None


class VersionSummary(FrozenModel):
    """One version: why it was trained, on how many rows, what the gate said, since when (event time) it answered.

    `auc_before` and `auc_after` are over the rows it answered: its predecessor's, had it stayed, and its own.
    """

    version: int
    cause: str
    decision: str
    promoted_at: AwareDatetime | None
    train_rows: int
    gate: str = ""
    auc_before: float | None = None
    auc_after: float | None = None


class Summary(FrozenModel):
    """What one demo did. Metrics are means over the windows with enough labelled rows; `pooled_*` are over all rows at once."""

    requests_sent: int
    requests_failed: int
    predictions_answered: int
    predictions_counted_by_service: int
    predictions_archived: int
    labels_sent: int
    labels_counted_by_service: int
    labels_joined: int
    windows: int
    drift_events: int
    performance_events: int
    retrain_runs: int
    retrain_runs_started_by_automation: int
    promotions: int
    refusals: int
    versions: tuple[VersionSummary, ...]
    auc_static: float | None
    auc_loop: float | None
    logloss_static: float | None
    logloss_loop: float | None
    pooled_auc_static: float | None
    pooled_auc_loop: float | None
    pooled_logloss_static: float | None
    pooled_logloss_loop: float | None
    event_to_retrain_start_s: Timing
    promotion_to_serving_s: Timing
    peak_memory_mb: float
    wall_s: float
    problems: tuple[str, ...]


def summarise(evidence: Evidence) -> Summary:
    """Count every figure from the evidence."""
    comparisons, names = list(evidence.comparisons.values()), [event.name for event in evidence.events]
    pooled = [evidence.pooled] if evidence.pooled is not None else []
    return Summary(
        requests_sent=evidence.measured.sent.requests,
        requests_failed=evidence.measured.sent.failed,
        predictions_answered=evidence.measured.sent.predictions,
        predictions_counted_by_service=evidence.service.predictions,
        predictions_archived=evidence.counts.predictions,
        labels_sent=evidence.measured.sent.labels,
        labels_counted_by_service=evidence.service.labels,
        labels_joined=evidence.counts.joined,
        windows=len(evidence.windows),
        drift_events=names.count(DRIFT_DETECTED),
        performance_events=names.count(PERFORMANCE_DEGRADED),
        retrain_runs=len(evidence.retrains),
        retrain_runs_started_by_automation=sum(run.automated for run in evidence.retrains),
        promotions=len(replacements(evidence.moves)),
        refusals=sum(name in REFUSALS for name in names),
        versions=tuple(_version_summary(card, evidence) for card in evidence.cards),
        auc_static=mean_of(comparisons, "static", "auc"),
        auc_loop=mean_of(comparisons, "loop", "auc"),
        logloss_static=mean_of(comparisons, "static", "log_loss"),
        logloss_loop=mean_of(comparisons, "loop", "log_loss"),
        pooled_auc_static=mean_of(pooled, "static", "auc"),
        pooled_auc_loop=mean_of(pooled, "loop", "auc"),
        pooled_logloss_static=mean_of(pooled, "static", "log_loss"),
        pooled_logloss_loop=mean_of(pooled, "loop", "log_loss"),
        event_to_retrain_start_s=_timing(event_to_start_s(evidence.events, evidence.retrains)),
        promotion_to_serving_s=_timing(promotion_to_serving_s(evidence.moves, evidence.swaps)),
        peak_memory_mb=round(evidence.measured.peak_memory_mb, 1),
        wall_s=round(evidence.measured.wall_time.total_seconds(), 1),
        problems=tuple(evidence.problems),
    )


def to_json(summary: Summary) -> bytes:
    """The summary as summary.json keeps it."""
    return orjson.dumps(summary.model_dump(mode="json"), option=orjson.OPT_INDENT_2)


def event_to_start_s(events: Sequence[PrefectEvent], runs: Sequence[FlowRun]) -> list[float]:
    """Seconds from each event to the start of the run that it started."""
    occurred = {event.id: event.occurred for event in events}
    started = ((run.event_id, run.started) for run in runs)
    return [(at - occurred[id_]).total_seconds() for id_, at in started if id_ in occurred and at is not None]


def promotion_to_serving_s(moves: Sequence[Move], swaps: Mapping[int, datetime]) -> list[float]:
    """Seconds from each promotion, the first included, until the last worker answered with the version."""
    champions = ((move.version, move.at) for move in moves if move.alias == CHAMPION)
    return [(swaps[version] - at).total_seconds() for version, at in champions if version is not None and version in swaps]


def find_losses(summary: Summary) -> list[str]:
    """What went missing; empty when nothing did."""
    wrong = {
        f"requests_failed is {summary.requests_failed}": summary.requests_failed == 0,
        f"predictions_archived is {summary.predictions_archived}, but {summary.predictions_answered} were answered": (
            summary.predictions_archived == summary.predictions_answered
        ),
        f"labels_joined is {summary.labels_joined}, but {summary.labels_sent} were sent": (
            summary.labels_joined == summary.labels_sent
        ),
        f"{summary.retrain_runs_started_by_automation} of {summary.retrain_runs} retrainings were started by an automation": (
            summary.retrain_runs_started_by_automation == summary.retrain_runs
        ),
    }
    return [text for text, holds in wrong.items() if not holds]


def unmet_goals(summary: Summary) -> list[str]:
    """What a whole year must show beyond losing nothing; empty when it does."""
    better = summary.auc_loop is not None and summary.auc_static is not None and summary.auc_loop > summary.auc_static
    wrong = {
        "no retraining was started by an automation": summary.retrain_runs_started_by_automation >= 1,
        "no retrained version was promoted": summary.promotions >= 1,
        f"auc_loop is {summary.auc_loop}, not above auc_static, {summary.auc_static}": better,
    }
    return [text for text, holds in wrong.items() if not holds]


def _version_summary(card: ModelCard, evidence: Evidence) -> VersionSummary:
    decided, comparison = gate_event(card.version, evidence.events), evidence.version_comparisons.get(card.version)
    return VersionSummary(
        version=card.version,
        cause=card.cause.kind,
        decision=_decision(card, decided, evidence.moves),
        promoted_at=evidence.first_served.get(card.version),
        train_rows=card.data.rows,
        gate=str(decided.payload.get("reason", "")) if decided else "",
        auc_before=comparison.static.values.get("auc") if comparison else None,
        auc_after=comparison.loop.values.get("auc") if comparison else None,
    )


def _decision(card: ModelCard, decided: PrefectEvent | None, moves: Sequence[Move]) -> str:
    if card.parent is None:
        return "first"
    if any(move.version == card.version for move in replacements(moves)):
        return "promoted"
    return REFUSALS.get(decided.name, "not promoted") if decided is not None else "not promoted"


def _timing(seconds: Sequence[float]) -> Timing:
    return Timing(each=tuple(round(one, 3) for one in seconds), median=round(median(seconds), 3) if seconds else None)
