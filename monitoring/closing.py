"""Closing a window, step by step: measure, decide, write the decision into the ledger, send its event, write the result down.

Until the last step the window is open. Whatever fails before the ledger has the decision, the next try begins anew; afterwards
it goes on with that decision, for the version that it is about, whichever is champion by then. What people look at
(`monitoring.showing`) is made afterwards: no decision waits for it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from monitoring.archive import CONTRADICTED, Archive
from monitoring.calibration import bounds_in_force
from monitoring.champion_account import AccountStatement, ChampionAccount
from monitoring.diagnosis import Diagnosis, diagnose
from monitoring.drift import Drift
from monitoring.events import (
    LABELS_UNKNOWN,
    MODEL_ROLLED_BACK,
    ModelEvent,
    deterministic_id,
    request_event,
    send,
    window_event_id,
)
from monitoring.ledger import LedgerEntry, LedgerStep, advance, record_outcome, without_outcome, write_decision
from monitoring.measurement import Measurement, measure, served_by_version
from monitoring.partitions import collect
from monitoring.policy import Decision, Findings, RetrainRequest, broken_data, decide, unjudgeable
from monitoring.report import report_path
from monitoring.shadowing import Shadows, book
from monitoring.state import MonitorState, WindowResult, save_result
from monitoring.window import Window
from perennial.errors import AliasConflict
from perennial.labels import similar_class
from perennial.log_columns import EVENT_TIME, LABEL, SCORE, VERSION
from perennial.metrics import Metrics
from perennial.model import Model
from perennial.signals import SIGNALS, Bounds
from perennial.spec import ModelSpec

TOP_FEATURES = 3
"""Features named in an event's evidence: those that contribute most to the drift."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judge:
    """The model that judges a window, the log typed by its schema, and the versions whose rows it judges, or None for all.

    The champion comes with the versions that shadow it. One that no longer `serves` judges and reports, and requests nothing.
    `spec_path` is where flows find the model's spec: an event that starts one carries it. `last` is the newest decision that a
    flow carries out, `decided` what the ledger has about the window already.
    """

    model: Model
    archive: Archive
    versions: frozenset[int] | None = None
    shadows: Shadows | None = None
    serves: bool = True
    spec_path: str | None = None
    last: LedgerEntry | None = None
    decided: LedgerEntry | None = None


class ClosedWindow(NamedTuple):
    """What is to be remembered of a window that was closed: its result, what was asked for, the account.

    `judged`, `table` and `drift` are what it was judged by, for its report.
    """

    result: WindowResult
    request: RetrainRequest | None
    account: ChampionAccount | None
    judged: Model
    table: pl.DataFrame
    drift: Drift


def close_window(
    window: Window, judge: Judge, spec: ModelSpec, state: MonitorState, unreadable_share: float, now: datetime
) -> ClosedWindow:
    """Close one window; its result is on disk then.

    Raises PrefectUnreachable when an event is due and is not confirmed: the window is still open then.
    """
    model, archive = judge.model, judge.archive
    answered, rows = judged_rows(window, judge)
    table = model.compiled.table(rows)
    measured = measure(model, table, rows[LABEL], rows[SCORE])
    findings = _findings(window, rows, measured, model, archive, unreadable_share, bounds_in_force(spec, model.card.bounds))
    account, statement = _account(findings, judge, spec, state)
    decision = _decide(findings, statement, judge, spec, now)
    link = report_path(archive.home, window) if findings.rows else None
    standing = judge.decided.request if judge.decided else None
    request = standing or _request(findings, statement, measured, decision, model, link)
    decision = _carry_out(decision, request, findings, statement, judge, now)
    result = WindowResult(
        model=model.card.name,
        version=model.card.version,
        findings=findings,
        distances={name: one.total for name, one in measured.drift.distances.items()},
        metrics=measured.metrics,
        served_metrics=measured.served,
        served_by_version=served_metrics(rows, judge),
        rows_by_version=dict(answered.group_by(VERSION).len().sort(VERSION).iter_rows()),
        unknown_categories=measured.drift.unknown,
        diagnosis=diagnose_window(findings, measured, statement, model, spec),
        account=statement,
        decision=decision,
        report=str(link) if link else None,
        closed_at=now,
    )
    save_result(archive.home, result)
    return ClosedWindow(result, request, account, model, table, measured.drift)


def judged_rows(window: Window, judge: Judge) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The window's rows with the labels that have come, and those of them that are judged."""
    answered = collect(judge.archive.with_labels(window.start, window.end), judge.archive.home)
    return answered, answered if judge.versions is None else answered.filter(pl.col(VERSION).is_in(list(judge.versions)))


def served_metrics(rows: pl.DataFrame, judge: Judge) -> dict[int, Metrics]:
    """What the answers of each version turned out to be, where several have answered the judged rows."""
    return served_by_version(rows, judge.model, judge.shadows.card if judge.shadows else lambda _: None)


def _account(
    findings: Findings, judge: Judge, spec: ModelSpec, state: MonitorState
) -> tuple[ChampionAccount | None, AccountStatement | None]:
    """The champion's account with this window, unless nothing can be said about it or its data are broken."""
    if judge.shadows is None:
        return state.account, None
    void = unjudgeable(findings, spec) or broken_data(findings, spec)
    account = book(state.account_of(judge.model.card.version), None if void else findings.window, judge.shadows, spec)
    newest_age = max(findings.window.end - judge.shadows.newest_until(), timedelta())
    unlabelled, promised = not judge.archive.has_labels(), judge.shadows.promised()
    return account, account.statement(spec, newest_age, never_labelled=unlabelled, promised=promised)


def diagnose_window(
    findings: Findings, measured: Measurement, statement: AccountStatement | None, model: Model, spec: ModelSpec
) -> Diagnosis | None:
    """The kind of change; the newest comparison with a challenger counts if it is of this window."""
    newest = statement.newest if statement else None
    excess = newest.difference if newest and newest.window == findings.window else None
    contributions = _contributions(measured, model)
    return None if unjudgeable(findings, spec) else diagnose(findings, spec, contributions, measured.error_structure, excess)


def _contributions(measured: Measurement, model: Model) -> dict[str, float]:
    return {name: one.total * model.profile.importance[name] for name, one in measured.drift.distances.items()}


def _decide(findings: Findings, statement: AccountStatement | None, judge: Judge, spec: ModelSpec, now: datetime) -> Decision:
    """What the ledger has, or else the policy says; a model that no longer serves asks for nothing, and says what it would be."""
    if judge.decided is not None and (standing := judge.decided.request) is not None:
        return Decision(kind=standing.cause, reason=standing.reason, event_id=standing.event_id)
    last = judge.last.request if judge.last else None
    decision = decide(findings, last, spec, without_outcome(judge.last, now), statement)
    if judge.serves or decision.kind == "none":
        return decision
    retired = f"version {judge.model.card.version}, whose input contract no longer serves, asks for no retraining"
    return Decision(kind="none", reason=f"{decision.reason}; {retired}")


def _carry_out(
    decision: Decision,
    request: RetrainRequest | None,
    findings: Findings,
    statement: AccountStatement | None,
    judge: Judge,
    now: datetime,
) -> Decision:
    """Write down what the window leads to, then send it and have it confirmed, or roll back; the decision with its event."""
    if request is not None:
        decision = decision.model_copy(update={"event_id": request.event_id})
        if request.cause != "data":
            write_decision(judge.archive.home, request, now)
        if request.cause == "rollback":
            _roll_back(request, statement, judge, now)
        elif judge.decided is None or judge.decided.stage == "decided":
            send(request_event(request, now, judge.spec_path))
            if request.cause != "data":
                advance(judge.archive.home, request.event_id, LedgerStep(stage="sent", at=now))
    if findings.unknown_labels and judge.serves:
        send(_unknown_labels_event(judge.model, findings, now))
    return decision


def _roll_back(request: RetrainRequest, statement: AccountStatement | None, judge: Judge, now: datetime) -> None:
    """Let the predecessor serve again: the event, then the move. What was cut off after the move is left to the reconciler."""
    if judge.shadows is None or statement is None or statement.predecessor is None:
        return
    home, card, before = judge.archive.home, judge.model.card, statement.predecessor.version
    payload = {"version": before, "previous": card.version, "cause": "probation", "reason": request.reason}
    send(_window_event(MODEL_ROLLED_BACK, judge.model, request.window, payload, now))
    try:
        judge.shadows.roll_back(before, request.reason, now, request.event_id)
    except AliasConflict as error:
        log.warning("version %d stays where it is: %s", card.version, error)
        record_outcome(home, request.event_id, "declined", now, reason=str(error))
    else:
        record_outcome(home, request.event_id, "rolled back", now, reason=f"version {before} serves again")


def _findings(
    window: Window,
    rows: pl.DataFrame,
    measured: Measurement,
    model: Model,
    archive: Archive,
    unreadable_share: float,
    bounds: Bounds,
) -> Findings:
    """What the policy sees. The log covers all of a window but of the one in which it begins."""
    until, oldest = model.card.until, archive.oldest()
    uncovered = max(oldest - window.start, timedelta()) if oldest else timedelta()
    return Findings(
        window=window,
        rows=rows.height,
        labelled=measured.labelled,
        coverage=max(0.0, 1 - uncovered / (window.end - window.start)),
        trained_on_share=rows.select((pl.col(EVENT_TIME) <= until).mean()).item() or 0.0,
        values=measured.values,
        bounds=bounds,
        age=max(window.end - until, timedelta()),
        null_increases=measured.drift.null_increases,
        unseen_increases=measured.drift.unseen_increases,
        outside_increases=measured.drift.outside_increases,
        asked_again=archive.asked_again(window.start, window.end),
        contradicted=int(rows[CONTRADICTED].sum()),
        unknown_labels=measured.unknown_labels,
        unreadable_share=unreadable_share,
        means=measured.means,
        expected_loss=measured.expected_loss,
        moved_loss=measured.moved_loss,
    )


def _request(
    findings: Findings,
    statement: AccountStatement | None,
    measured: Measurement,
    decision: Decision,
    model: Model,
    link: Path | None,
) -> RetrainRequest | None:
    if decision.kind == "none":
        return None
    card, window = model.card, findings.window
    return RetrainRequest(
        model=card.name,
        version=card.version,
        window_start=window.start,
        window_end=window.end,
        cause=decision.kind,
        reason=decision.reason,
        evidence=_evidence(findings, measured, model) | (_account_evidence(statement) if statement else {}),
        report=str(link) if link else None,
        event_id=window_event_id(card.name, card.version, card.trained_at, window, decision.kind),
    )


def _unknown_labels_event(model: Model, findings: Findings, now: datetime) -> ModelEvent:
    card, window = model.card, findings.window
    classes = [
        {"name": name, "rows": rows, "similar": similar_class(name, card.classes)}
        for name, rows in findings.unknown_labels.items()
    ]
    times = {"window_start": window.start.isoformat(), "window_end": window.end.isoformat()}
    return _window_event(LABELS_UNKNOWN, model, window, {"version": card.version, **times, "classes": classes}, now)


def _window_event(name: str, model: Model, window: Window, payload: dict[str, Any], now: datetime) -> ModelEvent:
    """An event about this champion and window, which has the same id whenever it is sent."""
    card = model.card
    id_ = deterministic_id(name, card.name, card.version, card.trained_at.isoformat(), window.start.isoformat())
    return ModelEvent(name=name, model=card.name, id=id_, occurred=now, payload=payload)


def _evidence(findings: Findings, measured: Measurement, model: Model) -> dict[str, float | str]:
    evidence: dict[str, float | str] = {"rows": float(findings.rows), "labelled": float(findings.labelled)}
    for signal in SIGNALS:
        if signal.name in findings.values:
            evidence[signal.name] = findings.values[signal.name]
        if signal.name in findings.bounds:
            evidence[signal.bound_key] = findings.bounds[signal.name]
    shares = _contributions(measured, model)
    top = sorted(shares, key=lambda name: (-shares[name], name))[:TOP_FEATURES]
    names = ", ".join(f"{name} {shares[name]:.3g}" for name in top)
    return evidence | {"age_days": findings.age / timedelta(days=1), "top_features": names}


def _account_evidence(account: AccountStatement) -> dict[str, float | str]:
    figures: dict[str, float | str] = {"cost": account.cost}
    if account.newest is not None:
        figures |= {"avoidable": account.avoidable, "avoidable_error": account.error, "expected": account.expected}
        figures |= {} if account.newest.probe else {"challenger": float(account.newest.version)}
        other = "probe_loss" if account.newest.probe else "challenger_loss"
        figures |= {"champion_loss": account.newest.champion_loss, other: account.newest.other_loss}
    return figures
