"""Reports: Evidently says with rows what the profiles say with counts."""

import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import measure_drift
from monitoring.policy import Decision
from monitoring.report import (
    LIBRARY,
    MOST_DRAWN,
    disagreement,
    distances,
    headline,
    prune_reports,
    report_path,
    run_report,
    write_report,
)
from monitoring.window import window_at
from perennial.profile import count_profile
from perennial.spec import Task
from tests.monitoring.results import result_of
from tests.support.models import START, small_frame, small_model, train_small

LATER = START + timedelta(days=56)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_evidently_and_the_profiles_agree(tmp_path: Path, task: Task, shift: float) -> None:
    model, frame = small_model(task), small_frame(task, rows=400, seed=3, start=LATER, shift=shift)
    window, table = window_at(LATER, timedelta(days=7)), model.compiled.table(frame)
    theirs = write_report(tmp_path, model, result_of(model, window, table, bound=0.2), table)
    ours = measure_drift(model.profile, count_profile(table, model.profile))
    for name, distance in ours.distances.items():
        assert theirs[name] == pytest.approx(distance.values, abs=0.05)
        assert distance.error < (0.2 if shift == 0 else 1)
    assert not disagreement(theirs, ours)
    assert disagreement({"amount": 9.0}, ours)
    path = report_path(tmp_path, window)
    assert path.read_text().lstrip().lower().startswith(("<html", "<!doctype"))
    drifted = orjson.loads(path.with_suffix(".json").read_bytes())
    assert drifted["metrics"] or drifted["metric_results"]


@st.composite
def windows(draw: st.DrawFn) -> pl.DataFrame:
    """Rows of any kind within four standard deviations: moved, stretched, skewed, with nulls and with new categories."""
    rows, chance = draw(st.integers(100, 800)), np.random.default_rng(draw(st.integers(0, 999)))
    shape = draw(st.sampled_from([chance.standard_normal, chance.standard_exponential, chance.random]))
    amount = shape(rows) * draw(st.floats(0.1, 1.5)) + draw(st.floats(-3, 3))
    shops = draw(st.lists(st.sampled_from(["north", "east", "south", "west", "moon"]), min_size=1, max_size=5, unique=True))
    hole = chance.random(rows) < draw(st.sampled_from([0.0, 0.0, 0.2, 0.6]))
    return small_frame(rows=rows, start=LATER).with_columns(
        amount=pl.when(pl.Series(~hole)).then(pl.Series(amount)), shop=pl.Series(chance.choice(shops, rows))
    )


@settings(max_examples=8, deadline=None)
@given(windows())
def test_any_window_is_as_far_for_evidently_as_for_the_profiles(frame: pl.DataFrame) -> None:
    """Within 0.05 of sampling and what a bin's width can hide."""
    model, week = small_model(), window_at(LATER, timedelta(days=7))
    table = model.compiled.table(frame)
    with warnings.catch_warnings(action="ignore"):
        theirs = distances(run_report(model, week, table, 0.1))
    ours = measure_drift(model.profile, count_profile(table, model.profile))
    assert theirs.keys() >= {"amount", "shop"}
    for name, distance in ours.distances.items():
        assert distance.values == pytest.approx(theirs[name], abs=0.05 + distance.error)
    assert not disagreement(theirs, ours)


def test_runs_of_one_model_share_a_project(tmp_path: Path) -> None:
    model, table = small_model(), small_model().compiled.table(small_frame(rows=100, start=LATER))
    for week in range(3):
        later = window_at(LATER + timedelta(weeks=week), timedelta(days=7))
        write_report(tmp_path, model, result_of(model, later, table), table)
    assert len(list((tmp_path / "evidently").glob("*/snapshots/*.json"))) == 3
    assert len(list((tmp_path / "evidently").glob("*/metadata.json"))) == 1
    assert prune_reports(tmp_path, keep=2) == 1
    assert len(list((tmp_path / "evidently").glob("*/snapshots/*.json"))) == 2
    names = [f"{LATER + timedelta(weeks=week):%Y%m%d}T000000{end}" for week in (1, 2) for end in (".html", ".json")]
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {LIBRARY, *names}
    assert prune_reports(tmp_path, keep=2) == 0


def test_a_report_begins_with_the_decision_and_the_columns_by_what_they_add(tmp_path: Path) -> None:
    model, week = small_model(), window_at(LATER, timedelta(days=7))
    table = model.compiled.table(small_frame(rows=400, seed=3, start=LATER, shift=1.5))
    decision = Decision(kind="drift", reason="drift 0.9 is over its bound <0.1>")
    result = result_of(model, week, table, 0.1, decision)
    write_report(tmp_path, model, result, table)
    page = report_path(tmp_path, week).read_text()
    assert "is NOT detected" not in page
    assert (
        page.index("<body>")
        < page.index(f"small version 1, {week}")
        < page.index("drift: drift 0.9 is over its bound &lt;0.1&gt;")
    )
    assert f'<script src="{LIBRARY}"></script>' in page
    assert len(page) < 1_000_000 < (tmp_path / "reports" / LIBRARY).stat().st_size
    assert page.index("<td>amount</td>") < page.index("<td>shop</td>")
    assert "(bound 0.1)" in headline(result, model)


def test_only_the_columns_that_add_most_are_drawn() -> None:
    model, week = small_model(), window_at(LATER, timedelta(days=7))
    table = model.compiled.table(small_frame(rows=100, start=LATER))
    shares = {"shop": 0.3, "amount": 0.1}
    with warnings.catch_warnings(action="ignore"), pytest.MonkeyPatch.context() as patch:
        assert MOST_DRAWN > 1
        patch.setattr("monitoring.report.MOST_DRAWN", 1)
        assert list(distances(run_report(model, week, table, 0.1, shares))) == ["shop", "prediction"]


HUGE: dict[str, list[float]] = {
    "one value near 1e300": [1e300] * 400,
    "neighbours near 1e16": [1e16 + 2 * (number % 3) for number in range(400)],
    "both ends of the range": [(-1) ** number * 1.7e308 for number in range(400)],
    "a sum beyond the range": [1.7e308 / 400 * number for number in range(400)],
    "the least numbers there are": [5e-324 * (number % 4) for number in range(400)],
}


@pytest.mark.parametrize("case", HUGE)
def test_a_column_that_bins_cannot_divide_is_left_out_and_the_others_are_shown(tmp_path: Path, case: str) -> None:
    frame = small_frame(rows=400).with_columns(amount=pl.Series(HUGE[case]))
    model, week = train_small(frame), window_at(LATER, timedelta(days=7))
    table = model.compiled.table(frame)
    with np.errstate(all="ignore"):
        result = result_of(model, week, table, 0.1)
    assert write_report(tmp_path, model, result, table).keys() == {"shop", "prediction"}
    assert report_path(tmp_path, week).exists()


def test_nulls_and_unknown_categories_do_not_break_it(tmp_path: Path) -> None:
    model = small_model()
    frame = small_frame(rows=50, start=LATER).with_columns(amount=pl.lit(None, pl.Float64), shop=pl.lit("west"))
    table = model.compiled.table(frame)
    result = result_of(model, window_at(LATER, timedelta(days=7)), table, 0.1)
    assert write_report(tmp_path, model, result, table).keys() == {"shop", "prediction"}
