"""Tables about a model, as polars frames: its predictions with their labels, its windows, its versions, its history.

Columns are named for people. An input that bears such a name keeps it, and the log's column is then called `_score` and so on.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from monitoring.archive import CONTRADICTED, Archive
from monitoring.history import HistoryEntry, promises
from monitoring.state import WindowResult
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT, SCORE, SERVED_AT, VERSION
from perennial.metrics import Metrics
from perennial.model_card import ModelCard
from perennial.registry import Move
from perennial.signals import signals_of
from perennial.spec import METRICS, Task

TIME = pl.Datetime("us", "UTC")

LOG_COLUMNS = {
    ID: "id",
    EVENT_TIME: "event_time",
    SERVED_AT: "served_at",
    VERSION: "version",
    SCORE: "score",
    LABEL: "label",
    RECEIVED_AT: "label_received_at",
    CONTRADICTED: "label_contradicted",
}
"""Columns of the prediction log, by what `prediction_table` calls them; the inputs follow under their own names."""

HISTORY_SCHEMA: dict[str, Any] = {
    "at": TIME,
    "kind": pl.String,
    "version": pl.Int64,
    "decision": pl.String,
    "reason": pl.String,
    "window_start": TIME,
    "window_end": TIME,
    "by_person": pl.Boolean,
    "event_id": pl.String,
    "flow_run": pl.String,
}


def prediction_table(home: Path, card: ModelCard, url: str | None = None) -> pl.LazyFrame:
    """A row for each prediction, by event time: LOG_COLUMNS and the inputs of `card`; nothing is read before it is collected."""
    inputs = card.schema_.names
    names = {own: f"_{name}" if name in inputs else name for own, name in LOG_COLUMNS.items()}
    rows = Archive(home, card.task, card.schema_, url=url).with_labels(received=True)
    chosen = [*(pl.col(own).alias(name) for own, name in names.items()), pl.col(inputs)]
    return rows.select(chosen).sort(names[EVENT_TIME], names[SERVED_AT], maintain_order=True)


def window_table(results: Sequence[WindowResult], task: Task) -> pl.DataFrame:
    """A row for each closed window: what was measured, `signal_*` beside `bound_*`, the account, the decision and its reason.

    Metrics are those of the champion at its close on the labels that have come; null where a window has none.
    """
    signals = [signal.name for signal in signals_of(task)]
    schema = {
        "window_start": TIME,
        "window_end": TIME,
        "version": pl.Int64,
        "rows": pl.Int64,
        "labelled": pl.Int64,
        **{f"{kind}_{name}": pl.Float64 for name in signals for kind in ("signal", "bound")},
        **_metric_columns(task, (result.metrics for result in results)),
        "expected_loss": pl.Float64,
        "diagnosis": pl.String,
        "decision": pl.String,
        "reason": pl.String,
        "challenger": pl.Int64,
        "champion_loss": pl.Float64,
        "challenger_loss": pl.Float64,
        "probe_loss": pl.Float64,
        "avoidable_loss": pl.Float64,
        "avoidable_error": pl.Float64,
        "cost": pl.Float64,
        "promised": pl.Float64,
        "turned_out": pl.Float64,
        "event_id": pl.String,
        "report": pl.String,
        "closed_at": TIME,
    }
    return pl.DataFrame([_window_row(result) for result in results], schema=schema).sort("window_start")


def _window_row(result: WindowResult) -> dict[str, Any]:
    findings, decision = result.findings, result.decision
    return {
        "window_start": result.window.start,
        "window_end": result.window.end,
        "version": result.version,
        "rows": findings.rows,
        "labelled": findings.labelled,
        **{f"signal_{name}": value for name, value in findings.values.items()},
        **{f"bound_{name}": value for name, value in findings.bounds.items()},
        **(result.metrics.values if result.metrics else {}),
        "expected_loss": findings.expected_loss,
        "diagnosis": str(result.diagnosis) if result.diagnosis else None,
        "decision": decision.kind,
        "reason": decision.reason,
        **_account_cells(result),
        "event_id": decision.event_id,
        "report": result.report,
        "closed_at": result.closed_at,
    }


def _account_cells(result: WindowResult) -> dict[str, Any]:
    """The account after the window; the losses are those of this window, if it was compared."""
    account = result.account
    if account is None:
        return {}
    newest = account.newest if account.newest and account.newest.window == result.window else None
    challenger, probe = (newest if newest and newest.probe == wanted else None for wanted in (False, True))
    return {
        "challenger": challenger and challenger.version,
        "champion_loss": newest and newest.champion_loss,
        "challenger_loss": challenger and challenger.other_loss,
        "probe_loss": probe and probe.other_loss,
        "avoidable_loss": account.avoidable,
        "avoidable_error": account.error,
        "cost": account.cost,
        "promised": account.promised,
        "turned_out": account.turned_out,
    }


def version_table(
    cards: Sequence[ModelCard], aliases: Mapping[str, int], moves: Iterable[Move], results: Sequence[WindowResult], task: Task
) -> pl.DataFrame:
    """A row for each version: its card, aliases and metrics, what its promotion promised of the loss and what came true of it.

    `promised` and `turned_out` are relative changes of the loss, negative is better; null where nothing was compared.
    """
    found = {one.version: one for one in promises(moves, results)}
    schema = {
        "version": pl.Int64,
        "aliases": pl.List(pl.String),
        "trained_at": TIME,
        "trained_until": TIME,
        "rows": pl.Int64,
        **_metric_columns(task, (card.metrics for card in cards)),
        "promised": pl.Float64,
        "turned_out": pl.Float64,
        "cause": pl.String,
        "detail": pl.String,
        "parent": pl.Int64,
        "learner": pl.String,
        "rounds": pl.Int64,
        "data_fingerprint": pl.String,
        "spec_fingerprint": pl.String,
        "git_commit": pl.String,
        "wandb_run": pl.String,
    }
    rows = [
        {
            **_card_cells(card),
            "aliases": sorted(alias for alias, version in aliases.items() if version == card.version),
            **(found[card.version].model_dump(exclude={"version"}) if card.version in found else {}),
        }
        for card in cards
    ]
    return pl.DataFrame(rows, schema=schema)


def _card_cells(card: ModelCard) -> dict[str, Any]:
    return {
        "version": card.version,
        "trained_at": card.trained_at,
        "trained_until": card.until,
        "rows": card.data.rows,
        **card.metrics.values,
        "cause": card.cause.kind,
        "detail": card.cause.detail,
        "parent": card.parent,
        "learner": card.learner,
        "rounds": card.rounds,
        "data_fingerprint": card.data.fingerprint,
        "spec_fingerprint": card.spec_fingerprint,
        "git_commit": card.git_commit,
        "wandb_run": card.wandb_run,
    }


def history_table(entries: Iterable[HistoryEntry]) -> pl.DataFrame:
    """A row for each entry, oldest first, in the columns of HISTORY_SCHEMA."""
    rows = [
        {
            **entry.model_dump(exclude={"window"}),
            "window_start": entry.window.start if entry.window else None,
            "window_end": entry.window.end if entry.window else None,
        }
        for entry in entries
    ]
    return pl.DataFrame(rows, schema=HISTORY_SCHEMA)


def _metric_columns(task: Task, found: Iterable[Metrics | None]) -> dict[str, Any]:
    """The task's metrics, and further ones that some row has."""
    more = (name for metrics in found if metrics for name in metrics.values)
    return dict.fromkeys((*METRICS[task], *more), pl.Float64)
