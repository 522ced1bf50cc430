"""Prometheus metrics of the learning loop: what the monitor has written of each model, as the service's `/metrics` shows it.

The monitor is a run of a flow, which no scraper finds; so it leaves its figures in a file of the model's home, as it leaves the
model's page, and each scrape of the service reads these files anew: some tenths of a millisecond a model. A service that does not
share the monitor's home has none of them. Every replica shows the same figures, so that a rule takes their maximum.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field, ValidationError

from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

FIGURES = "monitor/figures.json"
"""The file of a model's figures, below its home."""

log = logging.getLogger(__name__)


class LoopFigures(StoredModel):
    """Where the loop of one model stands. What is about a window is about the one that was closed last."""

    seen_at: AwareDatetime = Field(description="when the monitor had its last turn with the model")
    failing: bool = Field(False, description="whether the model cannot be followed")
    windows: dict[str, int] = Field(default_factory=dict, description="closed windows by their decision")
    requests: dict[str, int] = Field(default_factory=dict, description="windows that started a flow, by flow")
    outcomes: dict[str, int] = Field(default_factory=dict, description="answered requests by what became of them")
    last_outcome: str | None = Field(None, description="of the request that was answered last")
    unconfirmed: bool = Field(False, description="whether an event waits for Prefect")
    unacknowledged: bool = Field(False, description="whether no flow run has begun for the last request")
    open_since: AwareDatetime | None = Field(None, description="when the request was sent that has no outcome yet")
    closed_at: AwareDatetime | None = None
    rows: int | None = None
    labelled: int | None = None
    signals: dict[str, float] = Field(default_factory=dict)
    bounds: dict[str, float] = Field(default_factory=dict)
    alarms: dict[str, bool] = Field(default_factory=dict)
    avoidable: float | None = None
    avoidable_error: float | None = None
    cost: float | None = None
    champion: int | None = None
    champion_age: float | None = Field(None, description="seconds from its newest training row to the window's end")
    age_limit: float | None = Field(None, description="`signals.max_age` in seconds")


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


Value = Callable[[LoopFigures], float | None]
Values = Callable[[LoopFigures], Mapping[str, float]]

GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("seen_timestamp_seconds", "When the monitor had its last turn with the model", lambda one: one.seen_at.timestamp()),
    ("failing", "1 while the monitor cannot follow the model", lambda one: one.failing),
    ("event_unconfirmed", "1 while Prefect has not confirmed an event; the window stays open", lambda one: one.unconfirmed),
    ("request_unacknowledged", "1 while no flow run has begun for the last request", lambda one: one.unacknowledged),
    ("request_failed", "1 when the request that was answered last failed", lambda one: one.last_outcome == "failed"),
    (
        "request_open_timestamp_seconds",
        "When the request was sent that has no outcome yet",
        lambda one: _seconds(one.open_since),
    ),
    ("window_closed_timestamp_seconds", "When a window was closed last", lambda one: _seconds(one.closed_at)),
    ("window_rows", "Predictions of that window", lambda one: one.rows),
    ("window_labelled", "Those that have a label", lambda one: one.labelled),
    ("avoidable_loss", "Loss that challengers would have saved, in losses of a window", lambda one: one.avoidable),
    ("avoidable_loss_error", "Standard error of that loss", lambda one: one.avoidable_error),
    ("promotion_cost", "Avoidable loss at which a promotion is due", lambda one: one.cost),
    ("champion_version", "Champion of that window", lambda one: one.champion),
    ("champion_age_seconds", "From its newest training row to the window's end, in event time", lambda one: one.champion_age),
    ("champion_age_limit_seconds", "Age over which a champion is retrained, if any", lambda one: one.age_limit),
)

COUNTERS: tuple[tuple[str, str, str, Values], ...] = (
    ("windows", "Closed windows", "decision", lambda one: one.windows),
    ("requests", "Windows that started a flow", "flow", lambda one: one.requests),
)

LABELLED_GAUGES: tuple[tuple[str, str, str, Values], ...] = (
    ("outcomes", "Answered requests by what has become of them", "outcome", lambda one: one.outcomes),
    ("signal", "A signal of that window", "signal", lambda one: one.signals),
    ("signal_bound", "Its bound", "signal", lambda one: one.bounds),
    ("signal_alarm", "1 when the signal lies on the wrong side of its bound", "signal", lambda one: one.alarms),
)


class LoopCollector:
    """Reads the figures of these models, by name and home, whenever it is collected."""

    def __init__(self, homes: Mapping[str, Path]) -> None:
        self._homes = homes

    def collect(self) -> Iterator["Metric"]:
        """One family for each metric, whatever models have it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found = {name: figures for name, home in self._homes.items() if (figures := read_figures(home)) is not None}
        for name, text, value in GAUGES:
            family = GaugeMetricFamily(_full(name), text, labels=["model"])
            _add(family, (((model,), value(one)) for model, one in found.items()))
            yield family
        for kind, table in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, LABELLED_GAUGES)):
            for name, text, label, values in table:
                labelled = kind(_full(name), text, labels=["model", label])
                _add(labelled, (((model, key), count) for model, one in found.items() for key, count in values(one).items()))
                yield labelled


def read_figures(home: Path) -> LoopFigures | None:
    """The figures of a model; None where the monitor has left none, or none that can be read: no scrape fails for them."""
    path = home / FIGURES
    try:
        return read_stored(LoopFigures, path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, NewerFormat) as error:
        log.warning("%s cannot be read, so that /metrics is without it: %s", path, error)
        return None


def _full(name: str) -> str:
    return f"perennial_loop_{name}"


def _add(family: "Metric", samples: Iterable[tuple[tuple[str, ...], float | None]]) -> None:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))  # type: ignore[attr-defined]
