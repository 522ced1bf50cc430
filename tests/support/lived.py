"""A small model that has lived three weeks: what registry, prediction log and monitor have on disk of it, without any server.

Version 1 is the first champion. After the first week version 2 is trained and refused, after the second week version 3 is trained
and promoted. In the third week it turned out half as good as promised. One request was declined in between.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from monitoring.archive import Archive
from monitoring.avoidable_loss import ExcessLoss
from monitoring.champion_account import AccountStatement, PairedLoss
from monitoring.events import window_event_id
from monitoring.ledger import record_outcome
from monitoring.measurement import Measurement, measure
from monitoring.policy import Decision, Findings
from monitoring.state import WindowResult, save_result
from monitoring.window import Window
from perennial.model import Model, to_files
from perennial.model_card import Cause
from perennial.registry import CHALLENGER, CHAMPION, REJECTED, Registry
from perennial.settings import Settings
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import START, publish_small, small_frame, small_model, train_small

WEEK = timedelta(days=7)
FIRST = START + 6 * WEEK
"""The Monday after the rows of `small_model` end."""

UNLABELLED = f"row-{6 * 168 + 3 * 168 - 1}"
"""The id of the last row, whose label has not come."""

DECLINED = "version 1 serves still, and knows this cause"


def live(home: Path) -> Settings:
    """Write the life below `home`; returns its settings."""
    settings = Settings(home=home)
    registry, first = Registry(settings.registry_url), small_model()
    publish_small(registry, first)
    weeks = [small_frame(rows=168, seed=11 + week, start=FIRST + week * WEEK) for week in range(3)]
    archive = Archive(settings.model_home("small"), "binary", first.card.schema_)
    for week in weeks[:2]:
        _log(archive, first, week, week)
    _close(archive, first, 0, "drift", "drift 0.3 is over its bound 0.1")
    _train(registry, weeks[:1], 2, "drift", REJECTED, {"promised": 0.08, "metric": "log_loss"})
    _close(archive, first, 1, "promotion", "avoidable loss 0.25 ± 0.05 of 0.2 in 2 windows, which pays a promotion")
    request = window_event_id("small", 1, first.card.trained_at, _window(1), "drift")
    record_outcome(archive.home, request, "declined", _window(1).end + timedelta(hours=25), reason=DECLINED)
    third = _train(registry, weeks[:2], 3, "promotion", CHAMPION, {"promised": -0.1, "metric": "log_loss"})
    _log(archive, third, weeks[2], weeks[2].head(167))
    _close(archive, third, 2, "none", "within bounds", _turned_out())
    return settings


def _window(week: int) -> Window:
    return Window(start=FIRST + week * WEEK, end=FIRST + (week + 1) * WEEK)


def _log(archive: Archive, model: Model, rows: pl.DataFrame, labelled: pl.DataFrame) -> None:
    add_predictions(archive, [predicted(model, rows)])
    add_labels(archive, [told(model, labelled)])


def _train(
    registry: Registry, weeks: list[pl.DataFrame], version: int, cause: str, alias: str, evidence: dict[str, object]
) -> Model:
    """Train and publish a challenger on all rows by then, and move the alias that says what was decided about it."""
    model = train_small(pl.concat([small_frame(), *weeks]), version=version)
    window = _window(len(weeks) - 1)
    event = window_event_id("small", 1, small_model().card.trained_at, window, cause)
    now = window.end + timedelta(hours=26)
    changed = {"cause": Cause(kind=cause, event_id=event, detail="as the window asked"), "trained_at": now, "parent": 1}
    model = replace(model, card=model.card.model_copy(update=changed))
    registry.publish("small", lambda number: to_files(model.with_version(number)))
    positions = registry.aliases("small").positions
    registry.promote("small", CHALLENGER, version, expect=positions.get(CHALLENGER), reason="published", now=now)
    reason = "log_loss worse: refused" if alias == REJECTED else "log_loss 0.45 against the champion's 0.5"
    registry.promote("small", alias, version, expect=positions.get(alias), reason=reason, now=now, evidence=evidence)
    return model


def _close(archive: Archive, model: Model, week: int, kind: Any, reason: str, account: AccountStatement | None = None) -> None:
    """The result of a window, measured as the monitor measures it."""
    window = _window(week)
    rows = archive.with_labels(window.start, window.end).collect()
    measured = measure(model, model.compiled.table(rows), rows["_label"], rows["_score"])
    event = None if kind == "none" else window_event_id("small", model.card.version, model.card.trained_at, window, kind)
    result = WindowResult(
        model="small",
        version=model.card.version,
        findings=_findings(window, rows.height, measured),
        distances={name: one.total for name, one in measured.drift.distances.items()},
        metrics=measured.metrics,
        served_metrics=measured.served,
        rows_by_version={model.card.version: rows.height},
        unknown_categories=measured.drift.unknown,
        account=account or AccountStatement(champion=model.card.version, cost=0.2),
        decision=Decision(kind=kind, reason=reason, event_id=event),
        report=None,
        closed_at=window.end + timedelta(hours=24),
    )
    save_result(archive.home, result)


def _findings(window: Window, rows: int, measured: Measurement) -> Findings:
    bounds = {"drift": 0.1, "loss": 0.6}
    return Findings(window=window, rows=rows, labelled=measured.labelled, values=measured.values, bounds=bounds)


def _turned_out() -> AccountStatement:
    difference = ExcessLoss(excess=-0.05, error=0.02)
    pair = PairedLoss(window=_window(2), version=1, rows=167, champion_loss=0.47, other_loss=0.5, difference=difference)
    return AccountStatement(
        champion=3, windows=1, avoidable=0.02, error=0.01, cost=0.2, predecessor=pair, promised=-0.1, turned_out=-0.05
    )
