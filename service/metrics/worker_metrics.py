"""What a worker counts of its predictions, its model and its prediction log; gauges carry the worker's pid."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.prediction_log.log import LogState


class WorkerMetrics:
    """Of the versions that a worker answers with, and of the rows it has answered."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        own = CollectorRegistry()
        self._predictions = Counter("perennial_predictions", "Rows answered by /predict", registry=own)
        self._unknown = Counter(
            "perennial_unknown_categories", "Rows with a category the model never saw", ["feature"], registry=own
        )
        self._nulls = Counter("perennial_nulls", "Rows with a null feature", ["feature"], registry=own)
        self._swaps = Counter("perennial_swaps", "Versions that became live", registry=own)
        self._refused = Counter("perennial_versions_refused", "Versions that could not be served", registry=own)
        gauge = partial(Gauge, registry=own, multiprocess_mode="liveall")
        self._version = gauge("perennial_model_version", "Version this worker answers with; 0 before the first")
        self._swapped = gauge("perennial_model_swapped_timestamp_seconds", "When that version became live")
        self._log = LogMetrics()

    def predicted(self, rows: int, unknown: Mapping[str, int], nulls: Mapping[str, int]) -> None:
        """Rows were answered; `unknown` and `nulls` count rows per feature."""
        self._predictions.inc(rows)
        for feature, count in unknown.items():
            self._unknown.labels(feature).inc(count)
        for feature, count in nulls.items():
            self._nulls.labels(feature).inc(count)

    def swapped(self, version: int, at: float) -> None:
        """A version became live at `at`, in seconds since 1970."""
        self._swaps.inc()
        self._version.set(version)
        self._swapped.set(at)

    def refused(self) -> None:
        """A version could not be served."""
        self._refused.inc()

    def logged(self, state: "LogState") -> None:
        """How the prediction log stands."""
        self._log.set(state)


class LogMetrics:
    """What a prediction log says of itself; its counters count rows. For one thread at a time."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        own = CollectorRegistry()
        gauge = partial(Gauge, registry=own, multiprocess_mode="liveall")
        self._gauges = {
            "waiting": gauge("perennial_log_waiting", "Prediction batches in memory that neither store nor spool has"),
            "waiting_bytes": gauge("perennial_log_waiting_bytes", "Bytes of those batches"),
            "spool_waiting": gauge("perennial_log_spool_waiting", "Predictions in the spool that the store does not have"),
            "reached": gauge("perennial_log_store_reached", "1 when the last write to the store worked"),
            "spoolable": gauge("perennial_log_spoolable", "1 when the last write to the spool worked"),
        }
        counter = partial(Counter, registry=own)
        self._counters = {
            "written": counter("perennial_log_written", "Predictions in the stream"),
            "spooled": counter("perennial_log_spooled", "Predictions that went to the spool"),
            "replayed": counter("perennial_log_replayed", "Predictions brought from a spool to the store"),
            "dropped": counter("perennial_log_dropped", "Predictions answered and not logged: store and disk took nothing"),
            "lost": counter("perennial_log_lost", "Predictions that a killed process had answered and not yet logged, at most"),
        }
        self._counted = dict.fromkeys(self._counters, 0)

    def set(self, state: "LogState") -> None:
        """Show `state`, whose counts only grow."""
        for name, gauge in self._gauges.items():
            gauge.set(getattr(state, name))
        for name, counter in self._counters.items():
            if grown := getattr(state, name) - self._counted[name]:
                counter.inc(grown)
                self._counted[name] += grown
