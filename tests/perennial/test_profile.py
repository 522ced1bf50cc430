"""Profiles: bins frozen with the model, whole counts that add up exactly however the rows are shared out."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from perennial.features import MAX_CATEGORIES
from perennial.profile import CategoricalProfile, NumericProfile, Profile, bin_codes, count_profile, fit_profile, merge_profiles
from perennial.spec import Kind

KINDS: dict[str, Kind] = {"amount": "numeric", "shop": "categorical"}


def table_of(amount: Any, shop: Any = None) -> pl.DataFrame:
    shops = shop if shop is not None else ["north"] * len(amount)
    return pl.DataFrame({"amount": pl.Series(amount, dtype=pl.Float64), "shop": pl.Series(shops, dtype=pl.String)})


def numeric(profile: Profile) -> NumericProfile:
    feature = profile.features["amount"]
    assert isinstance(feature, NumericProfile)
    return feature


def categorical(profile: Profile) -> CategoricalProfile:
    feature = profile.features["shop"]
    assert isinstance(feature, CategoricalProfile)
    return feature


def reference(rows: int = 5_000, seed: int = 0) -> Profile:
    chance = np.random.default_rng(seed)
    return fit_profile(
        table_of(chance.normal(size=rows), chance.choice(["north", "east"], rows)), KINDS, {"amount": 3, "shop": 1}
    )


def test_the_importance_is_shared_out() -> None:
    assert reference().importance == {"amount": 0.75, "shop": 0.25}
    even = fit_profile(table_of([1, 2]), KINDS, {})
    assert even.importance == {"amount": 0.5, "shop": 0.5}


def test_every_row_is_counted_once() -> None:
    profile = fit_profile(table_of([1, 2, None, 2], ["a", None, "b", "a"]), KINDS, {})
    assert (profile.rows, numeric(profile).rows, categorical(profile).rows) == (4, 4, 4)
    assert (numeric(profile).nulls, categorical(profile).nulls) == (1, 1)
    assert (categorical(profile).categories, categorical(profile).counts) == (("a", "b"), (2, 1))


def test_few_distinct_values_have_a_bin_each() -> None:
    feature = numeric(fit_profile(table_of([0, 1, 1, 7]), KINDS, {}))
    counted = {center: count for center, count in zip(feature.centers, feature.counts, strict=True) if count}
    assert counted == {0.0: 1, 1.0: 2, 7.0: 1}


def test_many_values_share_at_most_64_bins_of_alike_size() -> None:
    feature = numeric(reference())
    inside = [count for count in feature.counts if count]
    assert len(feature.counts) == len(feature.edges) + 1 <= 64
    assert max(inside) < 2 * 5_000 / 50
    assert list(feature.edges) == sorted(set(feature.edges))
    assert list(feature.centers) == sorted(feature.centers)
    assert feature.scale == pytest.approx(1, abs=0.05)


def test_values_beyond_the_reference_fall_into_tails() -> None:
    like = reference()
    top = numeric(count_profile(table_of([1e9, -1e9, float("inf"), None]), like))
    assert (top.counts[-1], top.counts[0], top.nulls, sum(top.counts)) == (2, 1, 1, 3)
    assert top.edges[-1] > 6, "a shift of several standard deviations can still be measured"


def test_a_new_category_counts_as_other() -> None:
    feature = categorical(count_profile(table_of([1, 1, 1], ["north", "new", None]), reference()))
    assert (feature.counts, feature.other, feature.nulls) == ((0, 1), 1, 1)


def test_rare_categories_beyond_the_limit_count_as_other() -> None:
    names = [f"c{number:05d}" for number in range(MAX_CATEGORIES + 5)]
    feature = categorical(fit_profile(table_of(range(len(names)), names), KINDS, {}))
    assert (len(feature.categories), feature.other) == (MAX_CATEGORIES, 5)


@pytest.mark.parametrize(
    "values", [[], [None, None], [3.0], [3.0] * 9, [1e300, -1e300], [1.7976931348623157e308] * 3, [5e-324, 0.0], [-0.0, 0.0]]
)
def test_any_reference_has_a_profile(values: list[float | None]) -> None:
    feature = numeric(fit_profile(table_of(values), KINDS, {}))
    assert feature.rows == len(values)
    assert np.isfinite([*feature.centers, feature.mean, *feature.edges]).all()


def test_a_constant_is_told_from_its_neighbours() -> None:
    like = fit_profile(table_of([3.0] * 5), KINDS, {})
    same, other = (numeric(count_profile(table_of([value]), like)).counts for value in (3.0, 3.0000001))
    assert same != other


def test_the_bins_measure_shifts_as_the_values_do() -> None:
    chance = np.random.default_rng(1)
    values = chance.gamma(2, size=5_000)
    like = fit_profile(table_of(values), KINDS, {})
    for shift in (0.0, 0.1, 0.5, 2.0):
        window = chance.gamma(2, size=2_000) + shift
        one, other = numeric(like), numeric(count_profile(table_of(window), like))
        binned = wasserstein_distance(one.centers, other.centers, one.counts, other.counts)
        assert binned == pytest.approx(wasserstein_distance(values, window), abs=0.1 * max(shift, 0.2))


def test_a_profile_survives_as_json() -> None:
    profile = reference()
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


VALUES = st.lists(st.tuples(st.none() | st.floats(-10, 10), st.sampled_from([None, "north", "east", "west"])), max_size=60)


@given(VALUES, st.lists(st.integers(0, 60), max_size=4))
def test_parts_add_up_to_the_profile_of_all_rows(rows: list[tuple[float | None, str | None]], cuts: list[int]) -> None:
    like, table = reference(200), table_of([one for one, _ in rows], [shop for _, shop in rows])
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [count_profile(table.slice(start, stop - start), like) for start, stop in pairwise(edges)]
    assert merge_profiles(parts) == count_profile(table, like)


@given(VALUES)
def test_the_place_of_each_value_is_the_bin_in_which_it_counts(rows: list[tuple[float | None, str | None]]) -> None:
    like, table = reference(200), table_of([one for one, _ in rows], [shop for _, shop in rows])
    for name, counted in count_profile(table, like).features.items():
        codes = bin_codes(table[name], like.features[name])
        assert tuple(np.bincount(codes[codes >= 0], minlength=len(counted.counts)).tolist()) == counted.counts
        assert (codes < 0).sum() == len(rows) - sum(counted.counts)
