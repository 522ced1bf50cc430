"""The summary of a demo: every figure counted from the parts, none from what the driver meant to do.

Requests and answers are the client's count of replies; rows are the archive's; windows are files; events and runs are the
Prefect API's; promotions are the registry's history; moments of serving are the service's own gauge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import orjson
from pydantic import AwareDatetime

from deployments.demo.frozen_baseline import Compared, mean_of
from deployments.demo.service_metrics import Scraped
from deployments.prefect_client.history import Run, Seen
from monitoring.archive import Counts
from monitoring.events import DRIFT_DETECTED, MODEL_HELD, MODEL_PROMOTED, MODEL_REJECTED, PERFORMANCE_DEGRADED
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.model_card import ModelCard
from perennial.registry import CHAMPION, Move
from tasks.serving.replay import Sent

REFUSALS = {MODEL_HELD: "held", MODEL_REJECTED: "rejected"}


@dataclass(frozen=True)
class Evidence:
    """What the parts of the stack say at the end of a replay."""

    sent: Sent
    scraped: Scraped
    counts: Counts
    windows: Sequence[WindowResult]
    weeks: Mapping[Window, Compared]
    pooled: Compared | None
    events: Sequence[Seen]
    retrains: Sequence[Run]
    moves: Sequence[Move]
    cards: Sequence[ModelCard]
    tenures: Mapping[int, Compared]
    """For each version that replaced another: the rows it answered, beside what the replaced one would have answered."""
    first_served: Mapping[int, datetime]
    """Event time of the first archived row each version answered."""
    swaps: Mapping[int, datetime]
    peak_memory_mb: float
    wall_s: float
    problems: Sequence[str]


class Timing(FrozenModel):
    """Seconds, in the order in which they happened, and their median."""

    each: tuple[float, ...]
    median: float | None


class VersionLine(FrozenModel):
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
    versions: tuple[VersionLine, ...]
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
    weeks, names = list(evidence.weeks.values()), [event.name for event in evidence.events]
    return Summary(
        requests_sent=evidence.sent.requests,
        requests_failed=evidence.sent.failed,
        predictions_answered=evidence.sent.predictions,
        predictions_counted_by_service=evidence.scraped.predictions,
        predictions_archived=evidence.counts.predictions,
        labels_sent=evidence.sent.labels,
        labels_counted_by_service=evidence.scraped.labels,
        labels_joined=evidence.counts.joined,
        windows=len(evidence.windows),
        drift_events=names.count(DRIFT_DETECTED),
        performance_events=names.count(PERFORMANCE_DEGRADED),
        retrain_runs=len(evidence.retrains),
        retrain_runs_started_by_automation=sum(run.automated for run in evidence.retrains),
        promotions=len(replacements(evidence.moves)),
        refusals=sum(name in REFUSALS for name in names),
        versions=tuple(_version_line(card, evidence) for card in evidence.cards),
        auc_static=mean_of(weeks, "static", "auc"),
        auc_loop=mean_of(weeks, "loop", "auc"),
        logloss_static=mean_of(weeks, "static", "log_loss"),
        logloss_loop=mean_of(weeks, "loop", "log_loss"),
        pooled_auc_static=_pooled(evidence, "static", "auc"),
        pooled_auc_loop=_pooled(evidence, "loop", "auc"),
        pooled_logloss_static=_pooled(evidence, "static", "log_loss"),
        pooled_logloss_loop=_pooled(evidence, "loop", "log_loss"),
        event_to_retrain_start_s=_timing(reactions(evidence.events, evidence.retrains)),
        promotion_to_serving_s=_timing(swap_times(evidence.moves, evidence.swaps)),
        peak_memory_mb=round(evidence.peak_memory_mb, 1),
        wall_s=round(evidence.wall_s, 1),
        problems=tuple(evidence.problems),
    )


def to_json(summary: Summary) -> bytes:
    """The summary as summary.json keeps it."""
    return orjson.dumps(summary.model_dump(mode="json"), option=orjson.OPT_INDENT_2)


def replacements(moves: Sequence[Move]) -> list[Move]:
    """Moves by which a version took over from another; the first champion took over from nobody."""
    return [move for move in moves if move.alias == CHAMPION and move.previous is not None]


def reactions(events: Sequence[Seen], runs: Sequence[Run]) -> list[float]:
    """Seconds from each event to the start of the run it caused."""
    occurred = {event.id: event.occurred for event in events}
    started = ((run.event_id, run.started) for run in runs)
    return [(at - occurred[id_]).total_seconds() for id_, at in started if id_ in occurred and at is not None]


def swap_times(moves: Sequence[Move], swaps: Mapping[int, datetime]) -> list[float]:
    """Seconds from each promotion, the first included, until the last worker answered with the version."""
    champions = ((move.version, move.at) for move in moves if move.alias == CHAMPION)
    return [(swaps[version] - at).total_seconds() for version, at in champions if version is not None and version in swaps]


def lossless(summary: Summary) -> list[str]:
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


def closed_loop(summary: Summary) -> list[str]:
    """What a whole year must show beyond losing nothing; empty when it does."""
    better = summary.auc_loop is not None and summary.auc_static is not None and summary.auc_loop > summary.auc_static
    wrong = {
        "no retraining was started by an automation": summary.retrain_runs_started_by_automation >= 1,
        "no retrained version was promoted": summary.promotions >= 1,
        f"auc_loop is {summary.auc_loop}, not above auc_static, {summary.auc_static}": better,
    }
    return [text for text, holds in wrong.items() if not holds]


def _version_line(card: ModelCard, evidence: Evidence) -> VersionLine:
    judged, tenure = _judgement(card.version, evidence.events), evidence.tenures.get(card.version)
    return VersionLine(
        version=card.version,
        cause=card.cause.kind,
        decision=_decision(card, judged, evidence.moves),
        promoted_at=evidence.first_served.get(card.version),
        train_rows=card.data.rows,
        gate=str(judged.payload.get("reason", "")) if judged else "",
        auc_before=tenure.static.values.get("auc") if tenure else None,
        auc_after=tenure.loop.values.get("auc") if tenure else None,
    )


def _judgement(version: int, events: Sequence[Seen]) -> Seen | None:
    gate = (MODEL_PROMOTED, *REFUSALS)
    return next((event for event in events if event.name in gate and event.payload.get("version") == version), None)


def _decision(card: ModelCard, judged: Seen | None, moves: Sequence[Move]) -> str:
    if card.parent is None:
        return "first"
    if any(move.version == card.version for move in replacements(moves)):
        return "promoted"
    return REFUSALS.get(judged.name, "not promoted") if judged is not None else "not promoted"


def _pooled(evidence: Evidence, side: str, metric: str) -> float | None:
    return mean_of([evidence.pooled], side, metric) if evidence.pooled is not None else None


def _timing(seconds: Sequence[float]) -> Timing:
    return Timing(each=tuple(round(one, 3) for one in seconds), median=round(median(seconds), 3) if seconds else None)
