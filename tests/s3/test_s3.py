"""Registry and prediction log on S3: what a directory guarantees holds there too, also when the connection is lost in a write."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitoring.archive import Archive
from perennial.errors import AliasConflict, ArchiveError, StaleToken, StorageUnreachable, VersionNotFound
from perennial.model_loading import load_model
from perennial.registry import CHAMPION, Registry
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.s3.cutting_proxy import CuttingProxy
from tests.support.models import publish_small, small_frame, small_model

NOW = datetime(2024, 3, 1, tzinfo=UTC)
MODEL, FRAME = small_model(), small_frame(rows=100, seed=1)


def files(number: int) -> Mapping[str, bytes]:
    return {"model.txt": f"tree {number}".encode() * 50_000, "model.json": b"{}"}


def promote(registry: Registry, version: int, reason: str, expect: int | None = None) -> str:
    try:
        registry.promote("flights", CHAMPION, version, expect=expect, reason=reason, now=NOW)
    except AliasConflict:
        return "another came first"
    return reason


def test_a_model_is_published_promoted_and_loaded(bucket: str) -> None:
    registry = Registry(f"{bucket}/models")
    publish_small(registry, MODEL)
    other = Registry(f"{bucket}/models")
    assert other.names() == ("small",)
    assert other.aliases("small").champion == 1
    loaded = load_model(other, "small", 1, Path())
    assert loaded.predict_frame(FRAME).tolist() == MODEL.predict_frame(FRAME).tolist()
    with pytest.raises(VersionNotFound, match=r"it has \[1\]"):
        other.promote("small", CHAMPION, 7, expect=1, reason="test", now=NOW)


def test_of_several_publishers_and_promoters_each_gets_what_no_other_gets(bucket: str) -> None:
    registry = Registry(bucket)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: registry.publish("flights", files), range(4))) == [1, 2, 3, 4]
        told_of = list(pool.map(lambda version: promote(registry, version, f"by {version}"), (1, 2, 3, 4)))
    assert told_of.count("another came first") == 3
    assert f"by {registry.aliases('flights').champion}" in told_of
    assert len(registry.history("flights")) == 1


def test_a_newer_claim_makes_the_older_run_powerless(bucket: str) -> None:
    token = Registry(bucket).claim("flights", "a", expect=0, reason="it trains", now=NOW)
    late = Registry(bucket, token)
    Registry(bucket).claim("flights", "b", expect=token, reason="the other was silent", now=NOW)
    with pytest.raises(StaleToken):
        late.publish("flights", files)
    assert Registry(bucket).versions("flights") == ()


def test_a_connection_lost_within_a_version_publishes_nothing_and_the_next_try_heals_it(
    bucket: str, connection: CuttingProxy
) -> None:
    registry = Registry(bucket)
    assert registry.publish("flights", files) == 1
    connection.cut_after = 200_000
    with pytest.raises(StorageUnreachable, match=f"{bucket} does not answer as it should"):
        registry.publish("flights", files)
    assert connection.cuts
    connection.heal()
    assert registry.versions("flights") == (1,)
    assert registry.publish("flights", files) == 3  # a number is given once, also to who has died
    assert registry.read("flights", 3) == files(3)


def test_a_move_whose_answer_was_lost_is_made_once_and_is_ours(bucket: str, connection: CuttingProxy) -> None:
    registry = Registry(bucket)
    registry.publish("flights", files)
    registry.aliases("flights")
    moved, create = list[str](), registry._fs.pipe_file

    def lose_the_answer(path: str, content: bytes, mode: str = "overwrite") -> None:
        connection.drop_answers += "/moves/" in path
        moved.append(path)
        create(path, content, mode)

    registry._fs.pipe_file = lose_the_answer
    assert promote(registry, 1, "by us") == "by us"
    assert connection.cuts == 1
    assert [move.reason for move in Registry(bucket).history("flights")] == ["by us"]


def test_the_prediction_log_keeps_each_row_once_over_a_lost_connection(
    bucket: str, connection: CuttingProxy, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "monitor", "binary", MODEL.card.schema_, url=f"{bucket}/logs/small")
    assert add_predictions(archive, [predicted(MODEL, FRAME.head(40))]) == 40
    connection.cut_after = 500  # the head of a request and no more
    with pytest.raises(ArchiveError, match="cannot be"):
        add_predictions(archive, [predicted(MODEL, FRAME)])
    connection.heal()
    after = Archive(tmp_path / "another", "binary", MODEL.card.schema_, url=f"{bucket}/logs/small")
    assert after.counts().predictions == 40
    assert add_predictions(after, [predicted(MODEL, FRAME)]) == 60
    assert add_labels(after, [told(MODEL, FRAME)]) == 100
    assert archive.counts() == after.counts()
    assert archive.labelled().collect().height == 100
