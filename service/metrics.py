"""Prometheus metrics of a service: each process writes files of its own, `/metrics` merges them.

What a worker's event loop counts of its requests is kept in plain numbers and brought to the files many times a second: writing
each of five samples of a request at once would cost more than its prediction. prometheus_client chooses its multiprocess form
when it is imported, by an environment variable: it is imported only inside functions, after `prepare_metrics`.
"""

import asyncio
import os
import shutil
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from service.prediction_log.log import LogState

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # variable by which prometheus_client finds the directory, in children too
FLUSH_INTERVAL = timedelta(seconds=0.05)  # until a count is in the files; a scrape waits as long before it looks
# Upper bounds of the latency histogram in seconds: a row takes milliseconds, 10,000 rows a second.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REQUESTS, PREDICTIONS = "perennial_requests", "perennial_predictions"
# Counters of the rows that clients write in the form of another version.
MISSING, IGNORED = "perennial_missing_columns", "perennial_ignored_columns"

RouteLabels = tuple[str, str]  # a route, such as /predict, and the model that it was asked about

LOG_GAUGES = {  # metrics of the prediction log by the field of its state; these, and those that only grow
    "waiting": ("perennial_log_waiting", "Prediction batches in memory that neither store nor spool has"),
    "waiting_bytes": ("perennial_log_waiting_bytes", "Bytes of those batches"),
    "spool_waiting": ("perennial_log_spool_waiting", "Predictions in the spool that the store does not have"),
    "reached": ("perennial_log_store_reached", "1 when the last write to the store worked"),
    "spoolable": ("perennial_log_spoolable", "1 when the last write to the spool worked"),
}
LOG_COUNTERS = {
    "written": ("perennial_log_written", "Predictions in the stream"),
    "spooled": ("perennial_log_spooled", "Predictions that went to the spool"),
    "replayed": ("perennial_log_replayed", "Predictions brought from a spool to the store"),
    "dropped": ("perennial_log_dropped", "Predictions answered and not logged: store and disk took nothing"),
    "lost": ("perennial_log_lost", "Predictions that a killed process had answered and not yet logged, at most"),
}


def prepare_metrics(directory: Path) -> None:
    """Empty the directory of an earlier run and make this process and its children use it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.environ[DIRECTORY] = str(directory)


def render_metrics(more: "Collector") -> bytes:
    """The metrics of all processes of this service, and those of `more`, as text; gauges of dead processes are left out."""
    from prometheus_client import generate_latest
    from prometheus_client.multiprocess import mark_process_dead

    directory = os.environ[DIRECTORY]
    for pid in {int(path.stem.rpartition("_")[2]) for path in Path(directory).glob("gauge_live*.db")}:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
    registry = _shared()
    registry.register(more)
    return generate_latest(registry)


def count_columns(model: str) -> dict[str, dict[str, int]]:
    """What all processes have counted of MISSING and IGNORED for a model, by column."""
    found: dict[str, dict[str, int]] = {MISSING: {}, IGNORED: {}}
    for name, labels, value in _totals(found):
        if labels["model"] == model:
            found[name][labels["column"]] = int(value)
    return found


def count_answered(model: str) -> dict[int, int]:
    """Rows that each version of a model has answered in all processes."""
    found: Counter[int] = Counter()
    for _, labels, value in _totals((PREDICTIONS,)):
        if labels["model"] == model:
            found[int(labels["version"])] += int(value)
    return found


def count_requests() -> dict[str, int]:
    """Requests that all processes have answered, by model."""
    found: Counter[str] = Counter()
    for _, labels, value in _totals((REQUESTS,)):
        found[labels["model"]] += int(value)
    return found


def _totals(names: Container[str]) -> Iterator[tuple[str, dict[str, str], float]]:
    """The counters of these names in all processes' files: name, labels, value."""
    for family in _shared().collect():
        if family.name in names:
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    yield family.name, sample.labels, sample.value


def _shared() -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(_BegunFiles(Path(os.environ[DIRECTORY])))
    return registry


class _BegunFiles:
    """Merges the files of all processes, those left out that a process has made and not begun: prometheus_client fails on them.

    A file is empty for an instant, and for ever where its process was killed in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.multiprocess import MultiProcessCollector

        found: Iterable[Metric] = MultiProcessCollector.merge([str(path) for path in self._begun()])  # type: ignore[no-untyped-call]
        return found

    def _begun(self) -> Iterator[Path]:
        for path in self._directory.glob("*.db"):
            with suppress(FileNotFoundError):  # a gauge of a process that has ended
                if path.stat().st_size:
                    yield path


class HttpMetrics:
    """What a worker counts of its requests; used in one event loop, `labels_accepted` excepted.

    `model` is empty for what is about none, such as `/metrics`.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram
        from prometheus_client import Counter as PrometheusCounter

        own, labels = CollectorRegistry(), ["route", "model"]
        self._requests = PrometheusCounter(REQUESTS, "Requests answered", [*labels, "code"], registry=own)
        self._seconds = Histogram("perennial_request_seconds", "Time to answer", labels, buckets=BUCKETS, registry=own)
        self._labels = PrometheusCounter("perennial_labels", "Labels accepted into the stream", ["model"], registry=own)
        self._key_rows = PrometheusCounter("perennial_key_rows", "Rows and labels that a key has sent", ["key"], registry=own)
        self._in_flight = Gauge("perennial_in_flight", "Requests in flight", registry=own, multiprocess_mode="livesum")
        self._planned: asyncio.TimerHandle | None = None
        self._codes: Counter[tuple[RouteLabels, int]] = Counter()
        self._times: dict[RouteLabels, _Observations] = {}
        self._rows: Counter[str] = Counter()
        self._now_in_flight = 0

    def in_flight_changed(self, requests: int) -> None:
        self._now_in_flight = requests
        if self._planned is None:
            self._planned = asyncio.get_running_loop().call_later(FLUSH_INTERVAL.total_seconds(), self.flush)

    def request_observed(self, labels: RouteLabels, code: int, seconds: float) -> None:
        """A request is answered; called before the client can have the response."""
        self._codes[labels, code] += 1
        times = self._times.get(labels)
        if times is None:
            times = self._times[labels] = _Observations()
        times.add(seconds)

    def rows_of_key(self, key: str, rows: int) -> None:
        """A request with these rows or labels was answered; `key` is the name of its API key."""
        self._rows[key] += rows

    def labels_accepted(self, model: str, rows: int) -> None:
        """Labels of a model went into the stream; from any thread."""
        self._labels.labels(model).inc(rows)

    def flush(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
        self._planned = None
        codes, self._codes = self._codes, Counter()
        times, self._times = self._times, {}
        rows, self._rows = self._rows, Counter()
        for key, count in rows.items():
            self._key_rows.labels(key).inc(count)
        for (labels, code), count in codes.items():
            self._requests.labels(*labels, str(code)).inc(count)
        for labels, some in times.items():
            some.add_to(self._seconds.labels(*labels))
        self._in_flight.set(self._now_in_flight)


class _Observations:
    """Observations of a histogram that are not in the files yet."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def add_to(self, histogram: Any) -> None:
        # prometheus_client has no public way to add many observations at once; a test holds the result to the public one.
        for bucket, count in zip(histogram._buckets, self._buckets, strict=True):
            if count:
                bucket.inc(count)
        histogram._sum.inc(self._sum)


class WorkerMetrics:
    """The metrics of a worker's models; gauges carry the worker's pid."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        own = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Any:
            return Counter(name, text, ["model", *labels], registry=own)

        gauge = partial(Gauge, labelnames=["model"], registry=own, multiprocess_mode="liveall")
        self.predictions = counter(PREDICTIONS, "Rows answered by /predict", "version")
        self.by_column = (
            counter("perennial_unknown_categories", "Rows with a category the model never saw", "feature"),
            counter("perennial_nulls", "Rows with a null feature", "feature"),
            counter(MISSING, "Rows without a column that the version has and another accepted form has not", "column"),
            counter(IGNORED, "Rows with a column that only another accepted form has", "column"),
        )
        self.swaps = counter("perennial_swaps", "Versions that became live")
        self.refused = counter("perennial_versions_refused", "Versions that could not be served")
        self.challenger_failed = counter("perennial_challenger_failures", "Requests that the champion answered in its place")
        self.share = gauge("perennial_challenger_share", "Share of the rows that the challenger answers, 0 to 1")
        self.version = gauge("perennial_model_version", "Version this worker answers with; 0 before the first")
        self.swapped = gauge("perennial_model_swapped_timestamp_seconds", "When that version became live")
        self.log_gauges = {name: gauge(*texts) for name, texts in LOG_GAUGES.items()}
        self.log_counters = {name: counter(*texts) for name, texts in LOG_COUNTERS.items()}

    def of(self, model: str) -> "ModelMetrics":
        return ModelMetrics(self, model)


class ModelMetrics:
    """What a worker counts of one model: its predictions, its versions and its prediction log."""

    def __init__(self, all_models: WorkerMetrics, model: str) -> None:
        def own(metric: Any) -> Any:
            return metric.labels(model)

        self._model, self._by_column = model, all_models.by_column
        self._predictions, self._by_version = all_models.predictions, dict[int, Any]()
        self._swaps, self._refused = own(all_models.swaps), own(all_models.refused)
        self._share, self._challenger_failed = own(all_models.share), own(all_models.challenger_failed)
        self._version, self._swapped = own(all_models.version), own(all_models.swapped)
        self._log_gauges = {name: own(gauge) for name, gauge in all_models.log_gauges.items()}
        self._log_counters = {name: own(counter) for name, counter in all_models.log_counters.items()}
        self._logged = dict.fromkeys(self._log_counters, 0)

    def predicted(self, version: int, rows: int, *by_column: Mapping[str, int]) -> None:
        """A version answered rows; `by_column` counts those with unknown categories, nulls, missing and ignored columns."""
        if (counter := self._by_version.get(version)) is None:
            counter = self._by_version[version] = self._predictions.labels(self._model, str(version))
        counter.inc(rows)
        for counter, counts in zip(self._by_column, by_column, strict=False):
            for column, count in counts.items():
                counter.labels(self._model, column).inc(count)

    def swapped(self, version: int) -> None:
        """A version became live now."""
        self._swaps.inc()
        self._version.set(version)
        self._swapped.set_to_current_time()

    def refused(self) -> None:
        self._refused.inc()

    def shared(self, share: float) -> None:
        """The share of the rows, 0 to 1, that the challenger answers from now on."""
        self._share.set(share)

    def challenger_failed(self) -> None:
        self._challenger_failed.inc()

    def logged(self, state: "LogState") -> None:
        """How the prediction log stands; its counts only grow. Called by one thread at a time."""
        for name, gauge in self._log_gauges.items():
            gauge.set(getattr(state, name))
        for name, counter in self._log_counters.items():
            if grown := getattr(state, name) - self._logged[name]:
                counter.inc(grown)
                self._logged[name] += grown
