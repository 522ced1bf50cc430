"""The benchmark of decisions: its file has the agreed form, its gates are worth what they should be, its null keeps the times."""

import polars as pl
import pytest

from benchmarks.decisions.__main__ import SHOWN, later, record, second_half
from benchmarks.decisions.gates import GATES, find_cases, gate_values
from benchmarks.decisions.sets import SETS, shuffle
from perennial.spec import load_spec
from tasks.backtest.study import DEFAULT, OURS, PROBED, Study
from tests.support.models import small_frame, small_spec
from tests.tasks.backtest.matrices import ageing, matrix_of, random_losses

STUDY = Study(matrix_of(24, ageing(0.1, noise=0.02), first=9), small_spec("regression"))


def test_a_policy_has_the_agreed_keys() -> None:
    found = record(STUDY.judge(DEFAULT, STUDY.ours()[DEFAULT]))
    assert tuple(found) == SHOWN
    assert found["possible"] == 14
    assert found["regret_mean"] is not None
    assert 0 <= found["regret_mean"] < 1


def test_where_every_new_version_is_better_foresight_says_yes_always() -> None:
    values = gate_values(STUDY.matrix)
    assert set(values) == set(GATES)
    assert values["always yes"] == {"value": pytest.approx(1), "accuracy": 1}
    assert values["perennial"]["value"] == pytest.approx(1)
    without = values["always yes, without the newest rows"]["value"]
    assert without is not None
    assert without < 0.9


def test_where_a_new_version_is_luck_no_gate_is_worth_all_of_foresight() -> None:
    values = gate_values(matrix_of(30, random_losses(5), first=9))
    assert all(one["value"] is not None and one["value"] < 0.9 for one in values.values())
    assert all(one["accuracy"] is not None and 0.2 < one["accuracy"] < 0.8 for one in values.values())


def test_a_champion_without_the_newest_window_is_its_own_judge() -> None:
    youngest = [one for one in find_cases(STUDY.matrix) if one.better is None]
    assert len(youngest) == 14
    assert all(one.gain_without_newest == 0 for one in youngest)


def test_the_later_half_of_a_life_is_counted_by_policy() -> None:
    found = second_half(Study(matrix_of(24, lambda boundary, window: [1.0] * 7, first=9), small_spec("regression")))
    assert set(OURS) - {PROBED} <= set(found)
    assert found[DEFAULT] == {"promotions_second_half": 0, "possible": 7}
    assert found["every window"] == {"promotions_second_half": 7, "possible": 7}


def test_every_policy_is_judged_on_the_windows_on_which_nothing_was_fitted() -> None:
    found = later(STUDY)
    assert set(found) == set(STUDY.policies())
    assert {one["possible"] for one in found.values()} == {len(STUDY.matrix.judged) - STUDY.early - 1}
    assert found["never"]["regret_mean"] == pytest.approx(1)
    assert found["every window"]["gain_share"] == pytest.approx(1)


def test_the_null_has_the_same_rows_at_the_same_times() -> None:
    frame = small_frame(rows=200)
    shuffled = shuffle(frame, "asked_at")
    assert shuffled["asked_at"].equals(frame["asked_at"])
    assert shuffled["row_id"].to_list() != frame["row_id"].to_list()
    assert shuffled.select(pl.exclude("asked_at")).sort("row_id").equals(frame.select(pl.exclude("asked_at")).sort("row_id"))


def test_every_set_has_a_spec() -> None:
    assert [load_spec(one.spec).name for one in SETS] == ["flights", "bike-sharing", "bike-sharing", "electricity"]
