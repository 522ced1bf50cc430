"""The soak's judgement: growth is told from warming up and from noise, and a process that was replaced is no figure."""

from typing import Any, cast

import numpy as np
import pytest

from benchmarks.serve.errors import BenchError
from benchmarks.serve.hosting import Hosted
from benchmarks.serve.load import parse
from benchmarks.serve.soak import LOOK, WARM_UP, Soak, Trend, _Look, _trend, _Watch
from tests.benchmarks.test_load import SAID

TIMES = [LOOK * number for number in range(1, 121)]


def looks(mb: list[float], descriptors: int = 40) -> list[_Look]:
    """A process looked at for ten minutes."""
    return [_Look(at, "worker", size, descriptors) for at, size in zip(TIMES, mb, strict=True)]


def test_growth_is_found_in_noise():
    noise = np.random.default_rng(1).normal(0, 0.2, len(TIMES))
    trend = _trend(looks([100 + 30 * at / 3_600 + off for at, off in zip(TIMES, noise, strict=True)]))
    assert abs(trend.mb_per_hour - 30) < 4 * trend.error < 8


def test_what_fills_in_the_first_minute_is_no_growth():
    trend = _trend(looks([80 if at < WARM_UP else 100 for at in TIMES]))
    assert (trend.first_mb, trend.last_mb) == (100, 100)
    assert trend.mb_per_hour == pytest.approx(0, abs=1e-9)


def test_the_most_descriptors_are_kept_though_they_fell_again():
    found = looks([100.0] * len(TIMES))
    found[50] = _Look(TIMES[50], "worker", 100, 90)
    trend = _trend(found)
    assert (trend.first_descriptors, trend.last_descriptors, trend.most_descriptors) == (40, 40, 90)


def test_a_process_that_was_replaced_voids_the_soak():
    watch = _Watch(cast("Hosted", _Nobody()), cast("Any", None))
    watch._looks = {1: looks([100.0] * len(TIMES)), 2: looks([100.0] * len(TIMES))[:60]}
    with pytest.raises(BenchError, match="came or went"):
        watch.trends()


def test_the_table_says_load_memory_and_descriptors():
    trend = Trend("worker", 150.25, 151, 4.5, 0.5, 40, 41, 42)
    text = Soak(10, 0.7, parse(SAID % 0, "here"), [trend]).render()
    assert "70 % of the most (10); 5,000 answers" in text
    assert "| worker | 150.2 to 151.0 | +4.5 ± 0.5 | 40 to 41 (42) |" in text


class _Nobody:
    """A server that is never looked at."""

    pid = 0

    class server:  # noqa: N801 - stands where an attribute does
        stream = "nothing"
