"""Forgetting on real files: a life of three weeks on disk, streams in a real store, and a monitor that follows meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis

from deployments.cli import run as perennial
from monitoring.lease import Lease, lease_key
from monitoring.state import load_results, save_result
from perennial.input_contract import read_base, set_base
from perennial.log_columns import EVENT_TIME, ID
from perennial.record import decode_label_batch, decode_prediction_batch
from perennial.registry import Registry
from perennial.settings import Settings
from service.prediction_log.streams import GROUP, append, dead_stream, from_entry, labels_stream, predictions_stream
from tasks.data.datasets import PARTS, SHORT, base_dataset, dataset_files, read_manifests, store_dataset
from tests.monitoring.running import MODEL, following, weeks
from tests.monitoring.running import home as monitor_home
from tests.monitoring.streams import serve
from tests.monitoring.test_watch import settings as monitored
from tests.support.lived import FIRST, WEEK, live
from tests.support.models import small_frame, small_spec

__all__ = ["monitored"]  # the fixture

HOURS = 6 * 168  # rows of the base dataset, and the number of the first row that was asked about
PERSON = f"row-{HOURS + 5}"


@pytest.fixture
def lived(tmp_path: Path, store: redis.Redis, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's home: archive, results, versions, a base dataset, one of a retraining, a report and a quarantine."""
    settings = live(tmp_path)
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", store_url)
    home, now = settings.model_home("small"), datetime.now(UTC)
    base, spec = small_frame(rows=HOURS), small_spec()
    set_base(home, store_dataset(base, spec.event_time, home, ("rows",), now).manifest.fingerprint, spec, {})
    grown = pl.concat([base, small_frame(rows=168, seed=11, start=FIRST)])
    retrained = store_dataset(grown, spec.event_time, home, ("log",), now)
    (home / "quarantine").mkdir()
    grown.head(1).write_parquet(home / "quarantine" / f"{retrained.path.name}.parquet")
    first = load_results(home)[0]
    save_result(home, first.model_copy(update={"report": "reports/first.html"}))
    (home / "reports").mkdir()
    (home / "reports" / f"{first.window.key}.html").write_text("a report")
    return home


def logged(home: Path, kind: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in sorted((home / kind).rglob("*.parquet"))])


def files(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def forget(*arguments: str) -> int:
    return perennial(["forget", "small", *arguments])


def test_without_yes_everything_is_shown_and_nothing_is_touched(lived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(lived)
    assert forget("--id", PERSON) == 0
    assert files(lived) == before
    said = capsys.readouterr().out
    assert "1 predictions and 1 labels of the prediction log" in said
    assert "what versions 2, 3 have learnt" in said
    assert "with --yes" in said


def test_an_id_is_gone_from_every_file_and_the_others_stay(lived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {kind: logged(lived, kind) for kind in ("predictions", "labels")}
    registry = files(lived.parent / "registry")
    assert forget("--id", PERSON, "--yes") == 0
    for kind, rows in before.items():
        assert logged(lived, kind).sort(ID).equals(rows.filter(pl.col(ID) != PERSON).sort(ID))
    assert not (lived / "reports" / f"{load_results(lived)[0].window.key}.html").exists()
    assert load_results(lived)[0].report is None
    (left,) = read_manifests(lived)  # the base, which never had the row
    assert left.rows == HOURS
    assert {*(lived / "datasets" / PARTS).iterdir()} == {*dataset_files(lived, left)}
    assert not list((lived / "quarantine").iterdir())
    assert files(lived.parent / "registry") == registry
    everything = b"".join(files(lived).values())
    assert f'"{PERSON}"'.encode() not in everything
    capsys.readouterr()
    assert forget("--id", PERSON, "--yes") == 0
    assert "nothing" in capsys.readouterr().out


def test_a_row_of_the_base_dataset_goes_and_retrainings_start_from_the_rest(lived: Path) -> None:
    old = read_base(lived)
    assert old is not None
    assert forget("--id", "row-7", "--yes") == 0
    base, after = base_dataset(lived), read_base(lived)
    assert base.frame.height == HOURS - 1
    assert "row-7" not in base.frame["row_id"]
    assert after is not None
    assert (after.contract, after.fingerprint == old.fingerprint) == (old.contract, False)
    assert not (lived / "datasets" / old.fingerprint[:SHORT]).exists()


def test_before_a_moment_all_is_gone_that_is_older(lived: Path) -> None:
    moment = FIRST + WEEK + timedelta(hours=10)
    whole = logged(lived, "predictions")
    assert forget("--before", moment.isoformat(), "--yes") == 1  # all of the base dataset would go
    assert logged(lived, "predictions").equals(whole)
    later = small_frame(rows=100, seed=3, start=moment)
    spec = small_spec()
    with_later = store_dataset(pl.concat([small_frame(rows=HOURS), later]), spec.event_time, lived, (), moment)
    base = read_base(lived)
    assert base is not None
    (lived / "datasets" / "base.json").unlink()
    set_base(lived, with_later.manifest.fingerprint, spec, {})
    assert forget("--before", moment.isoformat(), "--yes") == 0
    kept = whole.filter(pl.col(EVENT_TIME) >= moment)
    assert logged(lived, "predictions").sort(ID).equals(kept.sort(ID))
    assert set(logged(lived, "labels")[ID]) <= set(kept[ID])
    assert base_dataset(lived).frame.sort("asked_at").equals(later)


def batches(store: redis.Redis, stream: str, decode: Any) -> list[Any]:
    entries: Any = store.xrange(stream)
    return [decode(from_entry(fields)) for _, fields in entries]


def test_streams_keep_the_other_rows_of_an_entry(lived: Path, store: redis.Redis) -> None:
    asked = small_frame(rows=40, seed=4, start=FIRST + 4 * WEEK)
    serve(store, MODEL, asked, size=8)
    stream, person = predictions_stream("small"), asked["row_id"][3]
    store.xgroup_create(stream, GROUP, id="0")
    store.xreadgroup(GROUP, "monitor", {stream: ">"}, 2)  # a run that died has not acknowledged them
    append(store, dead_stream("small"), b'{"ids": ["%s"]}' % person.encode())
    append(store, dead_stream("small"), b'{"ids": ["somebody"]}')
    before = batches(store, stream, decode_prediction_batch)
    assert forget("--id", person, "--yes") == 0
    after = batches(store, stream, decode_prediction_batch)
    rows = {id_: (time, score) for one in before for id_, time, score in zip(one.ids, one.event_times, one.scores, strict=True)}
    del rows[person]
    assert {i: (t, s) for one in after for i, t, s in zip(one.ids, one.event_times, one.scores, strict=True)} == rows
    assert {len(cells) for one in after for cells in one.columns.values()} <= {8, 7}
    assert person not in [id_ for one in batches(store, labels_stream("small"), decode_label_batch) for id_ in one.ids]
    assert store.xpending(stream, GROUP)["pending"] == 1
    assert store.xlen(dead_stream("small")) == 1


def test_a_monitor_pauses_for_it_and_goes_on(
    store: redis.Redis, monitored: Settings, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(monitored.home))
    monkeypatch.setenv("REDIS_URL", store_url)
    home = monitor_home(monitored)
    serve(store, MODEL, weeks(1))
    with following(monitored) as wait:
        wait(lambda: load_results(home))
        person = logged(home, "predictions")[ID][0]
        assert forget("--id", person, "--yes") == 0
        assert person not in logged(home, "predictions")[ID]
        assert not (home / "monitor" / "pause").exists()
        lease = Lease(store, lease_key("small"))
        wait(lambda: not lease.is_free(store.get(lease.key)))  # the monitor follows the model again
    assert Registry(monitored.registry_url).versions("small") == (1,)


@pytest.mark.parametrize("arguments", [(), ("--id", "a", "--before", "2024-01-01"), ("--before", "yesterday")])
def test_whose_rows_must_be_said(lived: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert forget(*arguments, "--yes") == 1
    assert "--before" in capsys.readouterr().err
