"""Splits follow time and nothing else."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import TrainingError
from tasks.training.split import forward_chain, split_newest
from tests.support.models import small_frame


def test_the_newest_stretch_is_set_apart() -> None:
    frame = small_frame()
    split = split_newest.fn(frame, "asked_at", timedelta(days=7))
    assert split.test.height == 7 * 24
    assert split.train["asked_at"].max() < split.test["asked_at"].min()
    assert pl.concat([split.train, split.test]).equals(frame)


def test_a_stretch_that_leaves_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(TrainingError, match="lie within the newest 365d, which are held out: shorten it in the spec"):
        split_newest.fn(small_frame(), "asked_at", timedelta(days=365))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200).map(sorted), st.integers(1, 8))
def test_folds_learn_from_the_past_and_are_judged_on_what_comes_next(hours: list[int], folds: int) -> None:
    times = np.array(hours, dtype="datetime64[h]")
    if times[0] == times[-1]:
        with pytest.raises(TrainingError, match="the same event time"):
            forward_chain(times, folds)
        return
    chain = forward_chain(times, folds)
    assert 1 <= len(chain) <= folds
    for train, valid in chain:
        assert train.size > 0
        assert valid.size > 0
        assert times[train].max() < times[valid].min()
    assert np.array_equal(np.concatenate([chain[0][0], *(valid for _, valid in chain)]), np.arange(times.size))
