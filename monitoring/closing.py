"""Closing a window, step by step: measure, decide, send the event and have it confirmed, report, write down.

Until the last step the window is open. Whatever fails before, the next try begins anew and sends
the same event under the same id.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from monitoring.archive import Archive
from monitoring.calibration import bounds_in_force
from monitoring.events import request_event, send, window_event_id
from monitoring.measurement import Measurement, measure
from monitoring.partitions import collect
from monitoring.policy import Decision, Findings, decide
from monitoring.receipts import without_outcome
from monitoring.report import disagreement, report_path, write_report
from monitoring.retrain_requests import RetrainRequest
from monitoring.state import MonitorState, WindowResult, save_result
from monitoring.window import Window
from perennial.error_reporting import report
from perennial.log_columns import EVENT_TIME, LABEL, SCORE, VERSION
from perennial.model import Model
from perennial.signals import SIGNALS
from perennial.spec import ModelSpec

TOP_FEATURES = 3
"""Features named in an event's evidence: those that contribute most to the drift."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowMeasurement:
    """A window measured against a champion: what the policy sees, and what people want to see besides."""

    findings: Findings
    measurement: Measurement
    table: pl.DataFrame
    rows_by_version: dict[int, int]


@dataclass(frozen=True)
class ClosedWindow:
    """A closed window's result, and the request that was sent and confirmed on its account."""

    result: WindowResult
    sent: RetrainRequest | None


def close_window(
    window: Window, model: Model, spec: ModelSpec, archive: Archive, state: MonitorState, unreadable_share: float, now: datetime
) -> ClosedWindow:
    """Close one window against the champion `model`; its result is on disk when this returns.

    Raises PrefectUnreachable when an event is due and is not confirmed: the window is still open then.
    """
    measured = measure_window(window, model, spec, archive, unreadable_share)
    decision = decide(measured.findings, state.last_request, spec, without_outcome(archive.home, state.last_request, now))
    link = report_path(archive.home, window) if measured.findings.rows else None
    request = _request(measured, decision, model, link)
    if request is not None:
        decision = decision.model_copy(update={"event_id": request.event_id})
        send(request_event(request, now))
    written = link if link is not None and _write_report(archive.home, model, window, measured) else None
    result = _result(measured, decision, model, written, now)
    save_result(archive.home, result)
    return ClosedWindow(result, request)


def measure_window(window: Window, model: Model, spec: ModelSpec, archive: Archive, unreadable_share: float) -> WindowMeasurement:
    """Measure the champion on the rows of a window; nothing is written or sent."""
    rows = collect(archive.with_labels(window.start, window.end), archive.home)
    table = model.compiled.table(rows)
    measurement = measure(model, table, rows[LABEL], rows[SCORE])
    until = model.card.until
    findings = Findings(
        window=window,
        rows=rows.height,
        labelled=measurement.labelled,
        coverage=_coverage(window, archive.oldest()),
        trained_on_share=rows.select((pl.col(EVENT_TIME) <= until).mean()).item() or 0.0,
        values=measurement.values,
        bounds=bounds_in_force(spec, model.card.bounds),
        age=max(window.end - until, timedelta()),
        null_increases=measurement.drift.null_increases,
        unreadable_share=unreadable_share,
    )
    by_version = dict(rows.group_by(VERSION).len().sort(VERSION).iter_rows())
    return WindowMeasurement(findings, measurement, table, by_version)


def _coverage(window: Window, oldest: datetime | None) -> float:
    """Share of the window since the log's first row: 1 but for the window in which the log begins."""
    missing = max(oldest - window.start, timedelta()) if oldest else timedelta()
    return max(0.0, 1 - missing / (window.end - window.start))


def _request(measured: WindowMeasurement, decision: Decision, model: Model, link: Path | None) -> RetrainRequest | None:
    if decision.kind == "none":
        return None
    card, window = model.card, measured.findings.window
    return RetrainRequest(
        model=card.name,
        version=card.version,
        window_start=window.start,
        window_end=window.end,
        cause=decision.kind,
        reason=decision.reason,
        evidence=_evidence(measured, model),
        report=str(link) if link else None,
        event_id=window_event_id(card.name, card.version, card.trained_at, window, decision.kind),
    )


def _evidence(measured: WindowMeasurement, model: Model) -> dict[str, float | str]:
    findings = measured.findings
    evidence: dict[str, float | str] = {"rows": float(findings.rows), "labelled": float(findings.labelled)}
    for signal in SIGNALS:
        if signal.name in findings.values:
            evidence[signal.name] = findings.values[signal.name]
        if signal.name in findings.bounds:
            evidence[signal.bound_key] = findings.bounds[signal.name]
    shares = {name: one.total * model.profile.importance[name] for name, one in measured.measurement.drift.distances.items()}
    top = sorted(shares, key=lambda name: (-shares[name], name))[:TOP_FEATURES]
    names = ", ".join(f"{name} {shares[name]:.3g}" for name in top)
    return evidence | {"age_days": findings.age / timedelta(days=1), "top_features": names}


def _write_report(home: Path, model: Model, window: Window, measured: WindowMeasurement) -> bool:
    """Whether the report is there; one that cannot be made is reported as an error and holds nothing up."""
    try:
        theirs = write_report(home, model, window, measured.table, measured.findings.bounds.get("drift"))
    except Exception as error:  # a tool for people, of 200,000 lines: no failure of it may hold the loop up
        log.exception("no report of %s for %s", model.card.name, window)
        report(error, group=("monitoring", "report"), model=model.card.name, version=model.card.version)
        return False
    if apart := disagreement(theirs, measured.measurement.drift):
        log.warning("Evidently and the profiles disagree about %s: %s", window, apart)
    return True


def _result(measured: WindowMeasurement, decision: Decision, model: Model, link: Path | None, now: datetime) -> WindowResult:
    measurement = measured.measurement
    return WindowResult(
        model=model.card.name,
        version=model.card.version,
        findings=measured.findings,
        distances={name: one.total for name, one in measurement.drift.distances.items()},
        metrics=measurement.metrics,
        served_metrics=measurement.served,
        rows_by_version=measured.rows_by_version,
        unknown_categories=measurement.drift.unknown,
        decision=decision,
        report=str(link) if link else None,
        closed_at=now,
    )
