"""A loop to do harm to: each module of this directory has one stack, and says of which weeks its world is made."""

from collections.abc import Iterator
from datetime import timedelta

import polars as pl
import pytest

from tests.support.models import START, small_frame, write_small
from tests.support.stack import Replay, Stage, stage

DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)

LEASE = "5"
"""Seconds after which a training that gives no sign of life counts as dead."""

OPENING = START + 5 * WEEK
"""The first model learns five weeks; from here on the service is asked."""

TIMEOUT = "10"
"""Seconds after which the service gives a request up: one that a killed process has taken along is never answered."""

LATE = DAY + timedelta(hours=6)
"""When this much of the next week has been asked, a week is closed."""

FINDINGS_PROMOTE = 'policy.promote = "always"\n'
"""One request, one flow, one promotion: the shortest loop there is to do harm to."""


def world(ordinary: int, turned: int) -> pl.DataFrame:
    """A row an hour: so many ordinary weeks from the opening on, then so many in which no rule is true any more."""
    turn = OPENING + ordinary * WEEK
    before = small_frame(rows=(turn - START) // timedelta(hours=1), seed=1)
    after = small_frame(rows=24 * 7 * turned, seed=2, start=turn, shift=2.0)
    return pl.concat([before, after.with_columns((1 - pl.col("outcome")).alias("outcome"))])


@pytest.fixture(scope="module")
def loop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stack with a champion. Whatever a test kills in it has to come back by itself."""
    home = tmp_path_factory.mktemp("faults")
    spec = write_small(home, frame=request.module.the_world())
    spec.write_text(spec.read_text() + FINDINGS_PROMOTE)
    with stage(spec, home / "var", PERENNIAL_TIMEOUT=TIMEOUT, PERENNIAL_TRAINING_LEASE=LEASE) as up:
        up.train(until=OPENING)
        yield up


@pytest.fixture(scope="module")
def life(request: pytest.FixtureRequest, loop: Stage) -> Replay:
    """The weeks from the opening on: asked hour by hour, answered for half a day later."""
    return loop.replay(request.module.the_world(), OPENING, delay=timedelta(hours=12), step=timedelta(hours=1))


def assert_nothing_lost(loop: Stage, life: Replay) -> None:
    """Everything that was answered is in the archive, once, and every label that was accepted has found its row."""
    counts = loop.archived()
    assert counts.predictions == len(life.asked) == len(set(life.asked))
    assert counts.joined == len(set(life.told))


def unanswered(life: Replay) -> list[str]:
    """Predictions that a client asked for in vain; a label may be refused while the store is away, and is told again."""
    return [failure for failure in life.failures if "/predict" in failure]
