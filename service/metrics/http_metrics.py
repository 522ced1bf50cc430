"""What a worker's event loop counts of its requests: plain numbers, brought to the shared files many times a second.

Writing each of five samples of a request to the files at once would cost more than its prediction.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from datetime import timedelta

FLUSH_INTERVAL = timedelta(seconds=0.05)
"""Until a count is in the files, while there is anything to count; a scrape waits as long before it looks."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency histogram in seconds: a row takes milliseconds, 10,000 rows a second."""


class HttpMetrics:
    """Used in one event loop, `labels_accepted` excepted."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram
        from prometheus_client import Counter as PrometheusCounter

        own = CollectorRegistry()
        self._requests = PrometheusCounter("perennial_requests", "Requests answered", ["route", "code"], registry=own)
        self._seconds = Histogram("perennial_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=own)
        self._labels = PrometheusCounter("perennial_labels", "Labels accepted into the stream", registry=own)
        self._in_flight = Gauge("perennial_in_flight", "Requests in flight", registry=own, multiprocess_mode="livesum")
        self._planned: asyncio.TimerHandle | None = None
        self._codes: Counter[tuple[str, int]] = Counter()
        self._times: dict[str, _Observations] = {}
        self._now_in_flight = 0

    def in_flight_changed(self, requests: int) -> None:
        """So many requests are in flight now."""
        self._now_in_flight = requests
        if self._planned is None:
            self._planned = asyncio.get_running_loop().call_later(FLUSH_INTERVAL.total_seconds(), self.flush)

    def request_observed(self, route: str, code: int, seconds: float) -> None:
        """A request is answered; called before the client can have the response."""
        self._codes[route, code] += 1
        times = self._times.get(route)
        if times is None:
            times = self._times[route] = _Observations()
        times.add(seconds)

    def labels_accepted(self, rows: int) -> None:
        """Labels went into the stream; from any thread."""
        self._labels.inc(rows)

    def flush(self) -> None:
        """Bring what was counted to the files."""
        if self._planned is not None:
            self._planned.cancel()
        self._planned = None
        codes, self._codes = self._codes, Counter()
        times, self._times = self._times, {}
        for (route, code), count in codes.items():
            self._requests.labels(route, str(code)).inc(count)
        for route, some in times.items():
            some.add_to(self._seconds.labels(route))
        self._in_flight.set(self._now_in_flight)


class _Observations:
    """Observations of a histogram that are not in the files yet."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def add_to(self, histogram: "object") -> None:
        # prometheus_client has no public way to add many observations at once; a test holds the result to the public one.
        for bucket, count in zip(histogram._buckets, self._buckets, strict=True):  # type: ignore[attr-defined]
            if count:
                bucket.inc(count)
        histogram._sum.inc(self._sum)  # type: ignore[attr-defined]
