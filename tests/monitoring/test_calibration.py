"""Calibration: bounds that one more ordinary window keeps, with the confidence asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.calibration import (
    Calibration,
    blocks,
    bounds_in_force,
    calibrate,
    inherit_bounds,
    measure_block,
    missing_bounds_warning,
    prediction_bound,
    signal_confidence,
)
from perennial.spec import Task
from tests.support.models import START, small_frame, small_model, small_spec

END = datetime(2024, 3, 4, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_the_bound_is_the_one_sided_prediction_bound() -> None:
    # Hahn and Meeker's own example: n = 5, mean 50.10, sd 1.31, 95 %: t(0.95, 4) = 2.132.
    values = [51.4, 49.5, 48.7, 49.3, 51.6]
    assert prediction_bound(values, 0.95, "above") == pytest.approx(50.10 + 2.132 * 1.31 * (1 + 1 / 5) ** 0.5, abs=0.01)
    assert prediction_bound(values, 0.95, "below") == pytest.approx(50.10 - 2.132 * 1.31 * (1 + 1 / 5) ** 0.5, abs=0.01)


def test_it_covers_the_next_value_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(size=(2_000, 9))
    kept = [row[8] <= (prediction_bound(row[:8].tolist(), 0.95, "above") or 0) for row in draws]
    assert np.mean(kept) == pytest.approx(0.95, abs=0.015)


def test_an_ordinary_window_keeps_all_bounds_together_as_often_as_they_say() -> None:
    """Three signals of which each kept its own bound in 95 % of windows would alarm in 14 %."""
    spec, names = small_spec(), ("drift", "loss", "auc")
    draws = np.random.default_rng(0).normal(size=(2_000, 9, 3))
    alarmed = 0
    for blocks_and_next in draws:
        *past, next_values = [dict(zip(names, row, strict=True)) for row in blocks_and_next.tolist()]
        bounds = calibrate(spec, past)
        alarmed += next_values["auc"] < bounds["auc"] or any(next_values[name] > bounds[name] for name in ("drift", "loss"))
    assert alarmed / len(draws) == pytest.approx(0.05, abs=0.015)


def test_the_level_is_shared_among_the_signals_that_are_watched() -> None:
    spec = small_spec()
    assert signal_confidence(spec) == pytest.approx(1 - 0.05 / 3)
    assert signal_confidence(small_spec("regression")) == pytest.approx(1 - 0.05 / 2)
    more = spec.signals.model_copy(update={"calibration": True, "base_rate": True})
    assert signal_confidence(spec.model_copy(update={"signals": more})) == pytest.approx(1 - 0.05 / 5)
    off = spec.signals.model_copy(update={"loss": False, "auc": False, "drift": False})
    assert signal_confidence(spec.model_copy(update={"signals": off})) == pytest.approx(0.95)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=12), st.floats(0.51, 0.999))
def test_bounds_lie_on_their_side_of_the_mean(values: list[float], confidence: float) -> None:
    upper, lower = prediction_bound(values, confidence, "above"), prediction_bound(values, confidence, "below")
    mean = sum(values) / len(values)
    assert upper is not None
    assert lower is not None
    assert lower - 1e-6 <= mean <= upper + 1e-6


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_too_few_values_give_no_bound(values: list[float]) -> None:
    assert prediction_bound(values, 0.95, "above") is prediction_bound(values, 0.95, "below") is None


def test_blocks_are_the_newest_whole_windows() -> None:
    found = blocks(END, WEEK, 8, END - 3.5 * WEEK)
    assert [window.end for window in found] == [END - 2 * WEEK, END - WEEK, END]
    assert all(window.end - window.start == WEEK for window in found)


@pytest.mark.parametrize(("weeks", "count"), [(3, 3), (3 - 1 / 168, 3), (2.9, 3), (2.89, 2)])
def test_the_oldest_block_may_begin_a_little_before_the_rows(weeks: float, count: int) -> None:
    assert len(blocks(END, WEEK, 8, END - weeks * WEEK)) == count


def test_signals_that_can_never_alarm_are_named_with_the_fix() -> None:
    assert missing_bounds_warning(small_spec(), Calibration(bounds={"drift": 0.1, "loss": 0.5, "auc": 0.6}, blocks=3)) is None
    assert missing_bounds_warning(small_spec("regression"), Calibration(bounds={"drift": 0.1, "loss": 0.5}, blocks=3)) is None
    assert missing_bounds_warning(small_spec(), Calibration(bounds={}, blocks=2)) == (
        "the monitor will never alarm on drift, loss, auc: no bound. A bound takes 3 measured blocks, and the training rows fill "
        "2: whole windows of window.length = 7d with at least window.min_rows = 20 rows each, after a first one to learn from. "
        "Train on more history, make window.length shorter, or name drift_bound, loss_bound, auc_bound in [signals]"
    )


def test_bounds_that_cannot_be_calibrated_are_those_of_the_champion() -> None:
    """Fault F17: a version trained on two windows had no bounds, and the model was unwatched from then on."""
    spec, few = small_spec(), Calibration(bounds={"auc": 0.6}, blocks=2)
    parent = small_model()
    parent = replace(parent, card=parent.card.model_copy(update={"bounds": {"drift": 0.1, "loss": 0.5, "auc": 0.7}}))
    found = inherit_bounds(spec, few, parent)
    assert (found.bounds, found.inherited) == ({"auc": 0.6, "drift": 0.1, "loss": 0.5}, ("drift", "loss"))
    text = missing_bounds_warning(spec, found)
    assert text is not None
    assert text.startswith(
        f"the bounds of drift, loss are still those of version {parent.card.version}. A bound takes 3 measured"
    )
    assert inherit_bounds(spec, few, None) == few
    assert inherit_bounds(spec.model_copy(update={"metric": "brier"}), few, parent).inherited == ("drift",)


def test_a_signal_that_is_off_or_has_a_bound_in_the_spec_may_be_silent() -> None:
    spec = small_spec()
    named = spec.signals.model_copy(update={"drift_bound": 0.3, "loss": False})
    text = missing_bounds_warning(spec.model_copy(update={"signals": named}), Calibration(bounds={}, blocks=0))
    assert text is not None
    assert text.startswith("the monitor will never alarm on auc: no bound.")


def test_the_spec_has_the_last_word() -> None:
    spec = small_spec()
    named = spec.model_copy(update={"signals": spec.signals.model_copy(update={"drift_bound": 0.3})})
    assert bounds_in_force(named, {"drift": 0.1, "loss": 0.5}) == {"drift": 0.3, "loss": 0.5}


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_block_is_measured_as_a_window_is(task: Task) -> None:
    model = small_model(task)
    starts = (START + timedelta(days=60) + week * WEEK for week in range(4))
    frames = [small_frame(task, rows=168, seed=9, start=start) for start in starts]
    values = [measure_block(model, frame).values for frame in frames]
    bounds = calibrate(small_spec(task), values)
    others = ["calibration", "base_rate"]
    assert list(bounds) == (["drift", "loss", "auc", *others] if task == "binary" else ["drift", "loss", *others])
    assert all(value["drift"] <= bounds["drift"] for value in values)


def test_signals_without_values_have_no_bound() -> None:
    bounds = calibrate(small_spec(), [{"drift": 0.5}] * 5)
    assert bounds == {"drift": 0.5}
