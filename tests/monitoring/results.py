"""Results of windows as the monitor writes them."""

from datetime import UTC, datetime

import polars as pl

from monitoring.champion_account import AccountStatement
from monitoring.diagnosis import Diagnosis
from monitoring.drift import measure_drift
from monitoring.policy import Decision, Findings
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.model import Model
from perennial.profile import count_profile

CLOSED = datetime(2024, 6, 1, tzinfo=UTC)


def result_of(
    model: Model,
    window: Window,
    table: pl.DataFrame,
    bound: float | None = None,
    decision: Decision | None = None,
    diagnosis: Diagnosis | None = None,
    account: AccountStatement | None = None,
    closed_at: datetime = CLOSED,
) -> WindowResult:
    """The result of a window of these readable feature values, with drift as its only signal."""
    drift = measure_drift(model.profile, count_profile(table, model.profile))
    values = {"drift": drift.total} if drift.total is not None else {}
    return WindowResult(
        model=model.card.name,
        version=model.card.version,
        findings=Findings(window=window, rows=table.height, values=values, bounds={} if bound is None else {"drift": bound}),
        distances={name: one.total for name, one in drift.distances.items()},
        metrics=None,
        served_metrics=None,
        rows_by_version={model.card.version: table.height},
        unknown_categories=drift.unknown,
        diagnosis=diagnosis,
        account=account,
        decision=decision or Decision(kind="none", reason="within bounds"),
        report=None,
        closed_at=closed_at,
    )
