"""Which rows a retraining learns where the spec leaves it open: the mode that lost least recently, with a lead to change it."""

import pytest

from tasks.promotion.data_mode import RECENT, choose_mode


def losses(everything: float, trailing: float, weighted: float) -> dict[str, float]:
    return {"all": everything, "trailing": trailing, "weighted": weighted}


@pytest.mark.parametrize("current", ["all", "trailing", "weighted"])
def test_the_mode_that_lost_least_is_used(current: str) -> None:
    assert choose_mode([losses(0.50, 0.45, 0.52), losses(0.40, 0.37, 0.41)], current) == "trailing"


def test_one_training_alone_changes_nothing() -> None:
    assert choose_mode([losses(0.5, 0.1, 0.5)], "all") == "all"
    assert choose_mode([losses(0.5, 0.1, 0.5), {}], "all") == "all", "nor with one that could not compare"


def test_a_lead_within_its_error_changes_nothing() -> None:
    records = [losses(0.50, 0.40, 0.6), losses(0.50, 0.62, 0.6), losses(0.50, 0.47, 0.6)]
    assert choose_mode(records, "all") == "all"
    assert choose_mode(records, "trailing") == "trailing"


def test_what_was_long_ago_does_not_count() -> None:
    recent = [losses(0.50, 0.45, 0.5)] * RECENT
    assert choose_mode([*recent, *[losses(0.5, 5.0, 0.5)] * 9], "all") == "trailing"
