"""What a worker counts of its requests, brought to the files in bulk, is what prometheus_client counts one by one."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from service.metrics import BUCKETS, HttpMetrics

SECONDS = st.floats(0, 100) | st.sampled_from(BUCKETS)


def values(metrics: Iterable[Any]) -> dict[tuple[str, ...], float]:
    samples = [sample for metric in metrics for sample in metric.samples if not sample.name.endswith("_created")]
    return {(one.name, *one.labels.values()): one.value for one in samples}


@given(st.lists(st.lists(SECONDS, max_size=20), max_size=3))
def test_observations_brought_together_are_those_brought_singly(turns: list[list[float]]) -> None:
    singly = Histogram("perennial_request_seconds", "", ["route", "model"], buckets=BUCKETS, registry=CollectorRegistry())

    async def together() -> HttpMetrics:
        metrics = HttpMetrics()
        for turn in turns:
            for seconds in turn:
                metrics.request_observed(("/predict", "small"), 200, seconds)
                singly.labels("/predict", "small").observe(seconds)
            metrics.flush()
        return metrics

    metrics = asyncio.run(together())
    found, expected = values(metrics._seconds.collect()), values(singly.collect())
    assert found.keys() == expected.keys()
    assert all(abs(found[key] - expected[key]) < 1e-6 for key in found)
    assert values(metrics._requests.collect()) == (
        {("perennial_requests_total", "/predict", "small", "200"): float(sum(map(len, turns)))} if any(turns) else {}
    )


def test_counts_come_to_the_files_by_themselves_and_then_nothing_is_planned() -> None:
    async def live() -> None:
        metrics = HttpMetrics()

        def shown() -> float:
            return values(metrics._in_flight.collect())["perennial_in_flight",]

        metrics.in_flight_changed(1)
        metrics.request_observed(("/predict", "small"), 200, 0.01)
        await until(lambda: shown() == 1)
        assert values(metrics._requests.collect()) == {("perennial_requests_total", "/predict", "small", "200"): 1}
        metrics.in_flight_changed(0)
        await until(lambda: shown() == 0)
        assert metrics._planned is None

    asyncio.run(live())


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            await asyncio.sleep(0)  # the loop's other business
