"""The watch and a spec's own labels: they are in when their window is judged."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import redis

from monitoring.archive import Archive
from monitoring.fleet import Fleet, FollowedModel
from monitoring.state import load_results
from monitoring.watch import watch
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec_sources import LabelsSpec
from tasks.data.label_source import LabelSource
from tests.monitoring.streams import serve
from tests.support.models import START, publish_small, small_frame, small_model, small_spec
from tests.support.prefect_server import pointed_at

WEEK = 24 * 7


def test_labels_of_a_source_are_in_when_their_window_closes(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    model, settings = small_model(rows=4 * WEEK), Settings(home=tmp_path, redis_url=store_url)
    publish_small(Registry(settings.registry_url), model)
    frame = small_frame(rows=WEEK + 48, seed=5, start=START + timedelta(weeks=4))
    serve(store, model, frame, labels=False)
    file, home = tmp_path / "labels.csv", settings.model_home("small")
    labels = LabelSource(small_spec(), LabelsSpec(path="labels.csv", every=timedelta(hours=1)), tmp_path, home, {})
    frame.select("row_id", outcome=1 - pl.col("outcome")).write_csv(file)
    assert labels.poll(Archive(home, "binary", model.card.schema_), (), datetime.now(UTC)) == frame.height
    frame.select("row_id", "outcome").write_csv(file)
    with pointed_at("http://127.0.0.1:9/api"):  # nothing happens that Prefect would be told
        fleet = Fleet((FollowedModel(small_spec(), Path(), open_labels=lambda: labels),))
        summary = watch(lambda: fleet, settings, until=datetime.now(UTC))
    assert (summary.windows, summary.ingested.labels) == (1, frame.height), "corrected before the window closed"
    (result,) = load_results(home)
    assert (result.findings.labelled, result.findings.contradicted, result.decision.kind) == (WEEK, WEEK, "none")
