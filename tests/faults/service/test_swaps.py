"""A hundred swaps under load: no request fails, no version is mixed with another, and each is seen soon."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from perennial.model import Model
from perennial.registry import CHAMPION, Registry
from tests.faults.service.load import Answer, Load, asking, median
from tests.service.serving import registry_of, rows, serving
from tests.service.test_http_contract import frame_of
from tests.support import models
from tests.support.waiting import wait_until

SWAPS = int(os.environ.get("TEST_SWAPS", "100"))
VERSIONS = 5
"""More than a worker keeps in memory, so that every swap loads."""

PATIENCE = 30.0


def test_a_hundred_swaps_under_load(tmp_path: Path, store_url: str, say: Callable[[str], None]) -> None:
    registry, pool = registry_of(tmp_path), rows(20)
    for seed in range(VERSIONS):
        models.publish_small(registry, models.small_model(seed=seed), promote=seed == 0)
    with (
        serving(tmp_path, store_url, perennial_workers=2) as service,
        asking(service.url, pool, PATIENCE, connections=8) as load,
    ):
        before = load.flow(3)
        since = time.monotonic()
        promoted = [swap(registry, load, number) for number in range(SWAPS)]
        during = load.span(since, time.monotonic())
    seen = sorted(first_seen(load.answers, version, at) for version, at in promoted)
    wrong = mismatched(load.answers, pool)
    say(
        f"{len(promoted)} swaps, {len(load.answers)} answers, {load.failed} failed, {len(wrong)} with another version's score; "
        f"seen after {median(seen) * 1e3:.0f} ms (median), {seen[-1] * 1e3:.0f} ms (slowest)\n"
        f"    before: {before}\n    swaps:  {during}"
    )
    assert (len(promoted), load.failed, wrong) == (SWAPS, 0, [])


def swap(registry: Registry, load: Load, number: int) -> tuple[int, float]:
    """Promote the next version and wait until every worker answers with it; returns it, and when it was promoted."""
    standing = registry.aliases("small").champion
    version = (number + 1) % VERSIONS + 1
    registry.promote("small", CHAMPION, version, expect=standing, reason="test", now=datetime.now(UTC))
    at = time.monotonic()
    wait_until(lambda: {one.version for one in load.latest(20)} == {version}, 30, f"swap {number} to version {version}")
    return version, at


def first_seen(answers: list[Answer], version: int, promoted: float) -> float:
    """Seconds from the promotion to the first answer of the version."""
    return min(one.at + one.seconds for one in answers if one.version == version and one.at + one.seconds > promoted) - promoted


def mismatched(answers: list[Answer], pool: list[dict[str, object]]) -> list[Answer]:
    """Answers whose score is not what the version they name gives for the row."""
    frame = frame_of(pool)
    made: list[Model] = [models.small_model(seed=seed) for seed in range(VERSIONS)]
    expected = {version: model.predict_frame(frame).tolist() for version, model in enumerate(made, 1)}
    assert len({tuple(scores) for scores in expected.values()}) == VERSIONS, "the versions tell themselves apart"
    return [one for one in answers if one.score != expected[one.version][one.row]]
