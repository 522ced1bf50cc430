"""Datasets: each row is stored once, whatever datasets have it, and what no version needs is deleted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from perennial.errors import DataError
from perennial.input_contract import set_base
from perennial.model_card import DataRef
from perennial.registry import CHAMPION
from perennial.settings import load_settings
from tasks.data import datasets
from tasks.data.datasets import PARTS, Dataset, content_fingerprint, read_dataset, split_in_time, store_dataset
from tasks.data.pruning import prune_datasets
from tasks.promotion.publish import prune, publish
from tests.support.models import small_model
from tests.tasks.making import NOW, make_job


def daily(first: str, days: int, value: float = 0.0) -> pl.DataFrame:
    """A row a day."""
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    times = pl.datetime_range(start, start + timedelta(days=days - 1), "1d", eager=True, time_unit="us")
    return pl.DataFrame({"at": times, "x": pl.repeat(value, days, eager=True), "name": times.dt.to_string("%A")})


def store(home: Path, frame: pl.DataFrame, age: int = 0) -> Dataset:
    return store_dataset(frame, "at", home, ("test",), NOW - timedelta(days=age))


def files(home: Path) -> dict[str, tuple[int, int]]:
    """The stored parts, each with what tells whether it was written again."""
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in (home / "datasets" / PARTS).iterdir()}


def test_a_dataset_with_later_rows_stores_only_the_parts_that_have_some(tmp_path: Path) -> None:
    frame = daily("2020-01-01", 3 * 365)
    first = store(tmp_path, frame)
    before = files(tmp_path)
    longer = store(tmp_path, pl.concat([frame, daily("2022-12-31", 400, value=1.0)]))
    added = files(tmp_path).keys() - before.keys()
    assert (len(before), len(added)) == (3, 3), "the rest of 2022, 2023 and 2024"
    assert {name: files(tmp_path)[name] for name in before} == before
    assert longer.manifest.parts[:2] == first.manifest.parts[:2]
    for one in (first, longer):
        stored = read_dataset(tmp_path, one.manifest.fingerprint)
        assert stored.manifest == one.manifest
        assert_frame_equal(stored.frame, one.frame)


def test_a_value_of_an_old_row_costs_its_part(tmp_path: Path) -> None:
    frame = daily("2020-01-01", 3 * 365)
    store(tmp_path, frame)
    before = files(tmp_path)
    other = store(tmp_path, frame.with_columns(x=pl.when(pl.int_range(pl.len()) == 400).then(1.0).otherwise("x")))
    assert len(files(tmp_path).keys() - before.keys()) == 1
    assert read_dataset(tmp_path, other.manifest.fingerprint).frame["x"][400] == 1.0


def test_many_rows_are_split_by_month_and_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST", 100)
    sparse, dense = daily("1968-01-01", 60), daily("2024-02-01", 60)
    hours = pl.datetime_range(
        datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 9, 23, tzinfo=UTC), "1h", eager=True, time_unit="us"
    )
    hourly = pl.DataFrame({"at": hours}).with_columns(x=pl.lit(0.0), name=pl.lit("an hour"))
    untimed = dense.head(3).with_columns(at=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
    frame = pl.concat([sparse, dense, daily("2024-06-01", 60), hourly, untimed])
    parts = list(split_in_time(frame, "at"))
    assert [part.height for part in parts] == [60, 29, 31, 30, 30, *[24] * 9, 3]
    assert_frame_equal(pl.concat(parts), frame)


def test_a_fingerprint_is_that_of_all_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SLICE", 7)
    frame = daily("2024-01-01", 20).with_columns(pl.when(pl.int_range(pl.len()) % 7 > 0).then("name"))
    assert content_fingerprint(frame) == content_fingerprint(pl.concat([frame[:5], frame[5:]], rechunk=False))
    later = frame.with_columns(name=pl.when(pl.int_range(pl.len()) == 19).then(pl.lit("else")).otherwise("name"))
    assert content_fingerprint(later) != content_fingerprint(frame)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    stored = store(tmp_path, daily("2024-01-01", 5))
    (file,) = (tmp_path / "datasets" / PARTS).iterdir()
    file.unlink()
    with pytest.raises(DataError, match=file.name):
        read_dataset(tmp_path, stored.manifest.fingerprint)


def test_pruning_keeps_the_newest_and_the_needed_with_the_parts_they_share(tmp_path: Path) -> None:
    stored = [store(tmp_path, daily("2020-01-01", 366 + days), age=days) for days in range(1, 6)]
    fingerprints = [one.manifest.fingerprint for one in stored]
    (tmp_path / "quarantine").mkdir()
    for one in stored:
        (tmp_path / "quarantine" / f"{one.path.name}-odd-values.parquet").touch()
    (tmp_path / "datasets" / PARTS / ".half.parquet.1.partial").touch()
    assert prune_datasets(tmp_path, 2, {fingerprints[4]}) == 2
    kept = [stored[0], stored[1], stored[4]]
    assert {path.parent for path in tmp_path.glob("datasets/*/manifest.json")} == {one.path for one in kept}
    assert len(files(tmp_path)) == 1 + len(kept), "the whole year is one part of all three"
    for one in kept:
        assert_frame_equal(read_dataset(tmp_path, one.manifest.fingerprint).frame, one.frame)
    assert len(list((tmp_path / "quarantine").iterdir())) == len(kept)
    assert prune_datasets(tmp_path, 2, {fingerprints[4]}) == 0


def test_nothing_is_deleted_beside_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    stored = [store(tmp_path, daily("2020-01-01", days), age=days) for days in (3, 4, 5)]
    (stored[1].path / "manifest.json").write_text("{}")
    before = files(tmp_path)
    with pytest.raises(DataError, match="restore it from a backup"):
        prune_datasets(tmp_path, 1, ())
    assert files(tmp_path) == before


def test_a_publication_keeps_what_versions_that_may_serve_were_trained_on(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job = replace(job, settings=load_settings({"PERENNIAL_HOME": str(tmp_path / "var"), "PERENNIAL_KEEP_DATASETS": "1"}))
    stored = [store(job.home, daily("2020-01-01", 10 + age), age=age) for age in range(7)]  # the newest first
    base, newest = stored[6].manifest.fingerprint, stored[0].manifest.fingerprint
    set_base(job.home, base, job.spec, {"amount": "numeric", "shop": "categorical"})
    for version, place in enumerate((5, 4, 3, 2), start=1):
        data = DataRef(fingerprint=stored[place].manifest.fingerprint, rows=1, since=NOW, until=NOW)
        model = small_model()
        publish.fn(job, replace(model, card=model.card.model_copy(update={"data": data})), {})
        if version < 4:
            job.registry.promote("small", CHAMPION, version, expect=version - 1 or None, reason="test", now=NOW)
    prune.fn(job)
    left = {path.parent.name for path in job.home.glob("datasets/*/manifest.json")}
    needed = [stored[place].path.name for place in (4, 3, 2)]
    assert left == {*needed, base[:16], newest[:16]}, "predecessor, champion and challenger; the base; the newest"
