"""`perennial feedback`: what a table says that is not known yet goes into the stream, whoever runs or does not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from deployments.feedback import Feedback, send_feedback
from deployments.labels import label_report
from monitoring.archive import Archive
from monitoring.consumer import StreamConsumer
from perennial.errors import StackError, StoreUnreachable
from perennial.log_columns import ID, LABEL
from perennial.schema import Schema
from perennial.settings import Settings, load_settings
from service.prediction_log.streams import labels_stream
from tests.support.models import write_small

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sender:
    """A spec, a store, and a table of labels beside them."""

    def __init__(self, directory: Path, store_url: str) -> None:
        self.directory, self.spec = directory, write_small(directory)
        self.environ = {"PERENNIAL_HOME": str(directory / "var"), "REDIS_URL": store_url}
        self.settings: Settings = load_settings(self.environ)

    def send(self, text: str, **columns: str) -> Feedback:
        file = self.directory / "labels.csv"
        file.write_text(text)
        return send_feedback(self.spec, str(file), columns, self.settings, self.environ, NOW)

    def archive(self, store: redis.Redis) -> list[tuple[str, bool]]:
        """Archive the stream as a monitor does; what the log then holds."""
        archive = Archive(
            self.settings.model_home("small"), "binary", Schema(columns=(), target="outcome", event_time="asked_at", id="row_id")
        )
        consumer = StreamConsumer(store, "small")
        consumer.ensure_groups()
        consumer.ingest(consumer.read(), archive)
        return archive.labels().select(ID, LABEL).collect().rows()


@pytest.fixture
def sender(tmp_path: Path, store: redis.Redis, store_url: str) -> Sender:
    return Sender(tmp_path, store_url)


def test_labels_are_sent_once_before_and_after_they_are_archived(sender: Sender, store: redis.Redis) -> None:
    text = "id,label\nx,0\ny,1\nx,1\n"
    assert [sender.send(text).sent for _ in range(2)] == [2, 0], "the stream has them"
    assert sender.archive(store) == [("y", True), ("x", True)]
    assert sender.send(text).sent == 0, "the log has them"
    assert sender.send("id,label\nx,0\ny,1\n").sent == 1
    assert sender.archive(store) == [("y", True), ("x", True), ("x", False)]


def test_what_cannot_be_sent_is_named_and_the_rest_is_sent(sender: Sender, store: redis.Redis) -> None:
    found = sender.send("case,verdict\nx,0\ny,perhaps\n,1\nz,\n", id="case", label="verdict")
    shown = found.rows(sender.spec)
    assert shown["accepted"] == "1 labels, in the stream for the monitor"
    assert shown["no label"] == "1 rows"
    assert shown["rejected"].splitlines() == [
        "2 rows",
        "row 2: verdict is 'perhaps', expected true, false, 1 or 0 (or yes or no)",
        "row 3: case is None, expected a text of 1 to 256 characters or a whole number",
    ]
    assert store.xlen(labels_stream("small")) == 1


def test_without_a_store_the_fix_is_named(sender: Sender) -> None:
    del sender.environ["REDIS_URL"]
    sender.settings = load_settings(sender.environ)
    with pytest.raises(StackError, match=r"start the stack with `perennial up .*`, or set REDIS_URL"):
        sender.send("id,label\nx,0\n")
    sender.environ["REDIS_URL"] = "redis://127.0.0.1:9/0"
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9"):
        sender.send("id,label\nx,0\n")


def test_the_report_of_labels_says_what_was_read_of_the_source(sender: Sender) -> None:
    text = sender.spec.read_text()
    sender.spec.write_text(f'{text}labels.path = "truth/*.csv"\n')
    assert "nothing read yet of truth/*.csv: a running monitor polls it" in label_report(
        sender.spec, sender.settings, unmatched=False
    )
