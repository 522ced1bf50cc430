"""Drift: distances from counts, equal to those of the rows, and the same methods that the report shows."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from monitoring.drift import Drift, measure_drift
from perennial.profile import count_profile, fit_profile

KINDS = {"n": "numeric", "c": "categorical"}
RNG = np.random.default_rng(0)


def table(rows: int, shift: float = 0.0, shops: str = "abc", seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"n": rng.normal(shift, 2.0, rows), "c": rng.choice(list(shops), rows)})


REFERENCE = table(5_000, seed=0)
PROFILE = fit_profile(REFERENCE, KINDS, {"n": 3.0, "c": 1.0})  # type: ignore[arg-type]


def drift(window: pl.DataFrame) -> Drift:
    return measure_drift(PROFILE, count_profile(window, PROFILE))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 4.0, -4.0])
def test_a_number_has_the_normalised_wasserstein_distance_of_its_rows(shift: float) -> None:
    window = table(1_000, shift)
    exact = wasserstein_distance(REFERENCE["n"], window["n"]) / float(np.std(REFERENCE["n"].to_numpy()))
    assert drift(window).distances["n"].values == pytest.approx(exact, rel=0.1, abs=0.02)


@pytest.mark.parametrize("shops", ["abc", "ab", "abcd", "xyz"])
def test_a_category_has_the_jensen_shannon_distance_of_its_rows(shops: str) -> None:
    window = table(1_000, shops=shops)
    known = [*"abc", "other"]
    shares = [np.array([(frame["c"].replace_strict({c: c for c in "abc"}, default="other") == c).mean() for c in known])
              for frame in (REFERENCE, window)]  # fmt: skip
    assert drift(window).distances["c"].values == pytest.approx(float(jensenshannon(*shares)), abs=1e-9)
    assert drift(window).unknown.get("c", 0) == int((~window["c"].is_in(list("abc"))).sum())


def test_the_total_is_weighted_by_importance() -> None:
    found = drift(table(1_000, 1.0))
    assert found.total == pytest.approx(0.75 * found.distances["n"].total + 0.25 * found.distances["c"].total)


def test_the_reference_itself_has_no_drift() -> None:
    assert drift(REFERENCE).total == pytest.approx(0.0, abs=1e-9)


def test_nulls_count_although_the_values_have_not_moved() -> None:
    holes = REFERENCE.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then("n").alias("n"))
    found = drift(holes)
    assert found.null_increases == {"n": pytest.approx(0.5)}
    assert found.distances["n"].total == pytest.approx(0.5, abs=0.05)


def test_categories_that_the_training_never_had_are_a_share_of_their_own() -> None:
    found = drift(table(1_000, shops="abxx"))
    assert found.unseen_increases == {"c": pytest.approx(0.5, abs=0.05)}
    assert drift(table(1_000, shops="ab")).unseen_increases == {}


@pytest.mark.parametrize(("factor", "share"), [(1.0, 0.0), (1.5, 0.0), (1_000.0, 1.0), (-1_000.0, 1.0)])
def test_numbers_in_another_unit_are_far_outside_the_range_and_a_shift_is_not(factor: float, share: float) -> None:
    found = drift(table(1_000).with_columns(n=pl.col("n") * factor))
    assert found.outside_increases.get("n", 0.0) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("column", ["n", "c"])
def test_a_feature_gone_null_is_as_far_as_a_share_can_be(column: str) -> None:
    gone = REFERENCE.with_columns(pl.lit(None, dtype=REFERENCE.schema[column]).alias(column))
    assert drift(gone).distances[column].total == 1.0


def test_no_rows_have_no_drift() -> None:
    assert drift(REFERENCE.clear()).total is None


def test_a_constant_reference_can_be_left() -> None:
    constant = pl.DataFrame({"n": [3.0] * 100, "c": ["a"] * 100})
    profile = fit_profile(constant, KINDS, {})  # type: ignore[arg-type]
    moved = constant.with_columns(n=pl.lit(5.0))
    found = measure_drift(profile, count_profile(moved, profile))
    assert found.distances["n"].values > 1.0
    assert measure_drift(profile, count_profile(constant, profile)).total == 0.0


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=50))
def test_the_total_is_finite_or_absent(values: list[float | None]) -> None:
    found = drift(pl.DataFrame({"n": pl.Series(values, dtype=pl.Float64), "c": pl.Series(["a"] * len(values), dtype=pl.String)}))
    assert found.total is None or (math.isfinite(found.total) and found.total >= 0)
