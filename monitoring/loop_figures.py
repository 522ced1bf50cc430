"""The loop's figures of one model: kept up by the monitor's turns and written to the model's home, for the service's `/metrics`.

They are made from what the monitor has written anyway (window results, decision ledger), so that a run that dies leaves none
behind and the next one counts the same. A file that cannot be written holds no turn up: what is missing then is a metric.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from monitoring.ledger import Ledger, LedgerEntry
from monitoring.state import WindowResult, load_results
from perennial.atomic_files import replace_stored
from perennial.signals import SIGNALS
from perennial.spec import ModelSpec
from service.loop_metrics import FIGURES, LoopFigures, read_figures

INTERVAL = timedelta(seconds=15)
"""Between two writes in which nothing has happened; scrapers look about as often."""

OPEN_INTERVAL = timedelta(seconds=2)
"""The same while a request has no outcome yet: a small table's training is over after some seconds."""

log = logging.getLogger(__name__)


class LoopRecorder:
    """Counts the windows of one model and writes its figures; one thread uses it."""

    def __init__(self, spec: ModelSpec, home: Path) -> None:
        self._spec, self._home, self._ledger = spec, home, Ledger(home)
        results = load_results(home)
        self._last = results[-1] if results else None
        self._windows = Counter(result.decision.kind for result in results)
        self._requests = Counter(flow for result in results if (flow := result.decision.flow) is not None)
        self._next_write: datetime | None = None
        self._unconfirmed = False

    def window_closed(self, result: WindowResult) -> None:
        """Count a window whose result is written; the next turn writes it."""
        self._last, self._next_write = result, None
        self._windows[result.decision.kind] += 1
        if (flow := result.decision.flow) is not None:
            self._requests[flow] += 1

    def turn_ended(self, now: datetime, *, unconfirmed: bool) -> None:
        """Write the figures where something has changed, or nothing was written for a while."""
        if self._next_write is not None and now < self._next_write and unconfirmed == self._unconfirmed:
            return
        figures = self._figures(now, unconfirmed)
        is_open = figures.unacknowledged or figures.open_since is not None
        self._next_write, self._unconfirmed = now + (OPEN_INTERVAL if is_open else INTERVAL), unconfirmed
        _write(self._home, figures)

    def _figures(self, now: datetime, unconfirmed: bool) -> LoopFigures:
        known = LoopFigures(seen_at=now, unconfirmed=unconfirmed, windows=self._windows, requests=self._requests)
        changes = _of_window(self._spec, self._last) if self._last else {}
        if (last := self._ledger.last_request()) is not None:
            changes |= _of_request(last)
        return known.model_copy(update=changes | _of_outcomes(self._ledger.entries()))


def note_failing(home: Path) -> None:
    """The model cannot be followed; until a turn ends well again."""
    if (figures := read_figures(home)) is not None:
        _write(home, figures.model_copy(update={"failing": True}))


def _of_window(spec: ModelSpec, result: WindowResult) -> dict[str, object]:
    findings, account, limit = result.findings, result.account, spec.signals.max_age
    return {
        "closed_at": result.closed_at,
        "rows": findings.rows,
        "labelled": findings.labelled,
        "signals": findings.values,
        "bounds": findings.bounds,
        "alarms": {signal.name: findings.alarms(signal) for signal in SIGNALS if signal.name in findings.values},
        "avoidable": account.avoidable if account else None,
        "avoidable_error": account.error if account else None,
        "cost": spec.policy.cost,
        "champion": result.version,
        "champion_age": findings.age.total_seconds(),
        "age_limit": limit.total_seconds() if limit else None,
    }


def _of_request(last: LedgerEntry) -> dict[str, object]:
    """Where the last request stands."""
    is_open, begun = last.outcome is None, last.count("started") > 0
    return {"unacknowledged": is_open and not begun, "open_since": last.sent_at if is_open and begun else None}


def _of_outcomes(entries: Iterable[LedgerEntry]) -> dict[str, object]:
    settled = sorted((one for one in entries if one.outcome is not None), key=lambda one: one.steps[-1].at)
    outcomes = Counter(one.outcome for one in settled)
    return {"outcomes": outcomes, "last_outcome": settled[-1].outcome if settled else None}


def _write(home: Path, figures: LoopFigures) -> None:
    try:
        replace_stored(home / FIGURES, figures)
    except OSError as error:
        log.warning("the figures of the model in %s cannot be written: %s", home, error)
