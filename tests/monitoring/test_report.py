"""Reports: Evidently says with rows what the profiles say with counts."""

from datetime import timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from monitoring.drift import measure_drift
from monitoring.report import disagreement, report_path, write_report
from monitoring.window import window_at
from perennial.profile import count_profile
from perennial.spec import Task
from tests.support.models import START, small_frame, small_model, train_small

LATER = START + timedelta(days=56)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_evidently_and_the_profiles_agree(tmp_path: Path, task: Task, shift: float) -> None:
    model, frame = small_model(task), small_frame(task, rows=400, seed=3, start=LATER, shift=shift)
    window, table = window_at(LATER, timedelta(days=7)), model.compiled.table(frame)
    theirs = write_report(tmp_path, model, window, table, bound=0.2)
    ours = measure_drift(model.profile, count_profile(table, model.profile))
    for name, distance in ours.distances.items():
        assert theirs[name] == pytest.approx(distance.values, abs=0.05)
    assert not disagreement(theirs, ours)
    assert disagreement({"amount": 9.0}, ours)
    path = report_path(tmp_path, window)
    assert path.read_text().lstrip().lower().startswith(("<html", "<!doctype"))
    drifted = orjson.loads(path.with_suffix(".json").read_bytes())
    assert drifted["metrics"] or drifted["metric_results"]


def test_runs_of_one_model_share_a_project(tmp_path: Path) -> None:
    model, table = small_model(), small_model().compiled.table(small_frame(rows=100, start=LATER))
    for week in range(2):
        write_report(tmp_path, model, window_at(LATER + timedelta(weeks=week), timedelta(days=7)), table, bound=None)
    assert len(list((tmp_path / "evidently").glob("*/snapshots/*.json"))) == 2
    assert len(list((tmp_path / "evidently").glob("*/metadata.json"))) == 1


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
    assert write_report(tmp_path, model, week, model.compiled.table(frame), bound=0.1).keys() == {"shop", "prediction"}
    assert report_path(tmp_path, week).exists()


def test_nulls_and_unknown_categories_do_not_break_it(tmp_path: Path) -> None:
    model = small_model()
    frame = small_frame(rows=50, start=LATER).with_columns(amount=pl.lit(None, pl.Float64), shop=pl.lit("west"))
    assert write_report(tmp_path, model, window_at(LATER, timedelta(days=7)), model.compiled.table(frame), bound=0.1).keys() == {
        "shop",
        "prediction",
    }
