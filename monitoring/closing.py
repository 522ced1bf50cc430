"""Closing a window, step by step: examine, decide, tell and have it confirmed, report, write down.

Until the last step the window is open. Whatever fails before, the next try begins anew and tells
the same event under the same id.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from monitoring.archive import Archive
from monitoring.calibration import bounds_in_force
from monitoring.drift import Drift, measure_drift
from monitoring.events import RetrainRequest, event_id, requested, send
from monitoring.partitions import collect
from monitoring.performance import Performance, measure_performance
from monitoring.policy import Decision, Findings, decide
from monitoring.reminder import unsettled
from monitoring.report import disagreement, report_path, write_report
from monitoring.state import MonitorState, WindowResult, save_result
from monitoring.window import Window
from perennial.error_reporting import report
from perennial.log_columns import EVENT_TIME, LABEL, SCORE, VERSION
from perennial.model import Model
from perennial.profile import count_profile
from perennial.spec import ModelSpec

TOP = 3
"""Features named in an event's evidence: those that contribute most to the drift."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """A window measured against a champion: what the policy sees, and what people want to see besides."""

    findings: Findings
    drift: Drift
    performance: Performance
    table: pl.DataFrame
    served: dict[int, int]


@dataclass(frozen=True)
class Closed:
    """A window that is settled, and the request to retrain that was told and confirmed on its account."""

    result: WindowResult
    request: RetrainRequest | None


def close_window(
    window: Window, model: Model, spec: ModelSpec, archive: Archive, state: MonitorState, unreadable: float, now: datetime
) -> Closed:
    """Settle one window against the champion `model`; its result is on disk when this returns.

    Raises PrefectUnreachable when an event is due and is not confirmed: the window is still open then.
    """
    examined = examine(window, model, spec, archive, unreadable)
    decision = decide(examined.findings, state.asked, spec, unsettled(archive.home, state.told, now))
    decision = _identified(decision, window, model)
    link = report_path(archive.home, window) if examined.findings.rows else None
    request = _request(examined, decision, model, link) if decision.kind != "none" else None
    if request is not None:
        send(requested(request, now))
    made = link if link is not None and _reported(archive.home, model, window, examined) else None
    result = _result(examined, decision, model, made, now)
    save_result(archive.home, result)
    return Closed(result, request if decision.asks else None)


def examine(window: Window, model: Model, spec: ModelSpec, archive: Archive, unreadable: float) -> Examination:
    """Measure the champion on the rows of a window; nothing is written or told."""
    rows = collect(archive.with_labels(window.start, window.end), archive.home)
    table = model.compiled.table(rows)
    drift = measure_drift(model.profile, count_profile(table, model.profile))
    performance = measure_performance(model, table, rows[LABEL], rows[SCORE])
    until = model.card.until
    findings = Findings(
        window=window,
        rows=rows.height,
        labelled=performance.labelled,
        cover=_cover(window, archive.oldest()),
        seen=rows.select((pl.col(EVENT_TIME) <= until).mean()).item() or 0.0,
        drift=drift.total,
        loss=performance.loss,
        auc=performance.auc,
        age=max(window.end - until, timedelta()),
        null_increases=drift.null_increases,
        unreadable=unreadable,
        bounds=bounds_in_force(spec, model.card.bounds),
    )
    return Examination(findings, drift, performance, table, _versions(rows))


def _cover(window: Window, oldest: datetime | None) -> float:
    """Share of the window since the log's first row: 1 but for the window in which the log begins."""
    missing = max(oldest - window.start, timedelta()) if oldest else timedelta()
    return max(0.0, 1 - missing / (window.end - window.start))


def _versions(rows: pl.DataFrame) -> dict[int, int]:
    counted = rows.group_by(VERSION).len().sort(VERSION)
    return dict(counted.iter_rows())


def _identified(decision: Decision, window: Window, model: Model) -> Decision:
    if decision.kind == "none":
        return decision
    card = model.card
    id_ = event_id(card.name, card.version, card.trained_at, window, decision.kind)
    return decision.model_copy(update={"event_id": str(id_)})


def _request(examined: Examination, decision: Decision, model: Model, link: Path | None) -> RetrainRequest:
    assert decision.kind != "none"
    assert decision.event_id is not None
    return RetrainRequest(
        model=model.card.name,
        version=model.card.version,
        window_start=examined.findings.window.start,
        window_end=examined.findings.window.end,
        cause=decision.kind,
        reason=decision.reason,
        evidence=_evidence(examined, model),
        report=str(link) if link else None,
        event_id=decision.event_id,
    )


def _evidence(examined: Examination, model: Model) -> dict[str, float | str]:
    findings, bounds = examined.findings, examined.findings.bounds
    measured = {
        "rows": float(findings.rows),
        "labelled": float(findings.labelled),
        "drift": findings.drift,
        "drift_bound": bounds.drift,
        "loss": findings.loss,
        "loss_bound": bounds.loss,
        "auc": findings.auc,
        "auc_bound": bounds.auc,
        "age_days": findings.age / timedelta(days=1),
    }
    evidence: dict[str, float | str] = {name: value for name, value in measured.items() if value is not None}
    parts = {name: one.total * model.profile.importance[name] for name, one in examined.drift.distances.items()}
    top = sorted(parts, key=lambda name: (-parts[name], name))[:TOP]
    return evidence | {"top_features": ", ".join(f"{name} {parts[name]:.3g}" for name in top)}


def _reported(home: Path, model: Model, window: Window, examined: Examination) -> bool:
    """Whether the report is there; one that cannot be made is told to people and holds nothing up."""
    try:
        theirs = write_report(home, model, window, examined.table, examined.findings.bounds.drift)
    except Exception as error:  # a tool for people, of 200,000 lines: no failure of it may hold the loop up
        log.exception("no report of %s for %s", model.card.name, window)
        report(error, group=("monitoring", "report"), model=model.card.name, version=model.card.version)
        return False
    if apart := disagreement(theirs, examined.drift):
        log.warning("Evidently and the profiles disagree about %s: %s", window, apart)
    return True


def _result(examined: Examination, decision: Decision, model: Model, link: Path | None, now: datetime) -> WindowResult:
    findings = examined.findings
    return WindowResult(
        model=model.card.name,
        version=model.card.version,
        start=findings.window.start,
        end=findings.window.end,
        rows=findings.rows,
        labelled=findings.labelled,
        served=examined.served,
        cover=findings.cover,
        seen=findings.seen,
        drift=findings.drift,
        distances={name: one.total for name, one in examined.drift.distances.items()},
        metrics=examined.performance.metrics,
        served_metrics=examined.performance.served,
        bounds=findings.bounds,
        null_increases=findings.null_increases,
        unknown=examined.drift.unknown,
        unreadable=findings.unreadable,
        decision=decision,
        report=str(link) if link else None,
        closed_at=now,
    )
