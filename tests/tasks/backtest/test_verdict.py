"""The verdict: planted kinds of decay are named, and nothing is recommended that was not shown to be better."""

import numpy as np
import pytest

from perennial.spec_policy import PolicySpec
from tasks.backtest.study import DEFAULT, Study
from tasks.backtest.verdict import cheapest, decay_curve, decay_kind, policy_section, recommend
from tests.support.models import small_spec
from tests.tasks.backtest.matrices import BLOCKS, Loss, ageing, matrix_of

SPEC = small_spec("regression")


def noisy(mean: Loss) -> Loss:
    def loss(boundary: int, window: int) -> list[float]:
        chance = np.random.default_rng((boundary, window))
        return [one + 0.01 * float(chance.standard_normal()) for one in mean(boundary, window)]

    return loss


def growing(boundary: int, window: int) -> list[float]:
    """A model is as good as its rows are many; its age does not matter."""
    return [1 + 3 / (boundary + 1)] * BLOCKS


def abrupt(boundary: int, window: int) -> list[float]:
    """The world changes twice, and a model knows the one it was trained in."""
    changes = sum(boundary < change <= window for change in (12, 25))
    return [1 + 0.8 * changes] * BLOCKS


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("none", noisy(lambda boundary, window: [1.0] * BLOCKS)),
        ("growth", noisy(growing)),
        ("gradual", ageing(0.05, noise=0.01)),
        ("abrupt", noisy(abrupt)),
    ],
)
def test_planted_decay_is_named(kind: str, loss: Loss) -> None:
    assert decay_kind(matrix_of(36, loss, first=2)) == kind


def test_the_curve_says_what_age_costs() -> None:
    curve = decay_curve(matrix_of(30, ageing(0.05, noise=0.001)))
    assert [point.age for point in curve] == list(range(1, 14))
    assert curve[3].excess == pytest.approx(0.2, abs=0.01)
    assert curve[3].error < 0.01


def test_the_default_stays_where_nothing_is_better_beyond_chance() -> None:
    study = Study(matrix_of(30, noisy(lambda boundary, window: [1.0] * BLOCKS)), SPEC)
    found = recommend(study)
    assert (found.name, found.promotions) == (DEFAULT, 0)
    assert PolicySpec(train_on=found.train_on, every=found.every, promote=found.promote, cost=found.cost) == PolicySpec()


def test_where_each_window_of_age_costs_more_than_a_version_a_calendar_is_recommended() -> None:
    found = recommend(Study(matrix_of(30, ageing(0.6, noise=0.01)), SPEC))
    assert (found.name, found.promote, found.every) == ("every window", "always", 1)
    assert found.promotions == found.windows == 11
    assert found.gain_share == 1
    assert policy_section(found) == {
        "evidence": '"challenger"',
        "train_on": '["every"]',
        "every": "1",
        "promote": '"always"',
        "cost": "0.2",
    }


def test_only_what_undercuts_beyond_its_error_replaces_what_stands() -> None:
    standing, noise = np.ones(40), np.random.default_rng(0).normal(0, 0.3, 40)
    assert cheapest({"standing": standing, "as good": standing + noise - noise.mean() - 0.001}, "standing") == "standing"
    assert cheapest({"standing": standing, "better": standing - 0.1, "best": standing - 0.2}, "standing") == "best"
