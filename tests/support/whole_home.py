"""A home directory with a file of every kind that outlives a process, each written by the code that writes it.

    python -m tests.support.whole_home tests/fixtures/home-0.1.0    # keeps one of this release, for later ones to read

What a model has lived is `tests.support.lived`; beside it are the stack's files, a dead process's disk queue, a label source, and
the entries of the three streams, as a JSON list of their fields in base64.
"""

import base64
import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from deployments.stack.state import Address, HostedModel, Stack, save_stack
from monitoring.archive import Archive
from monitoring.label_retention import drop_unmatched
from monitoring.ledger import start
from monitoring.state import MonitorState, load_results, save_state
from monitoring.state_repair import derive_state
from monitoring.trouble import Trouble, write_trouble
from perennial.fleet import write_spec_list
from perennial.input_contract import set_base
from perennial.record import PredictionBatch, encode_batch
from perennial.registry import Registry
from perennial.spec_sources import LabelsSpec
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import Entry
from service.prediction_log.progress_file import create_progress
from service.prediction_log.streams import dead_stream, labels_stream, predictions_stream
from tasks.data.datasets import store_dataset
from tasks.data.label_source import LabelSource
from tests.monitoring.streams import predicted, serve
from tests.support.lived import live
from tests.support.models import small_frame, small_model, small_spec, write_small

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
REQUEST = "00000000-0000-4000-8000-000000000001"
STREAMS = "streams.json"
ELSEWHERE = Path("/home/me/var")
"""What `stack.json` names as the home: a fixture has no path of the machine that made it."""


def label_source(home: Path) -> LabelSource:
    """The source of the labels in `labels.csv`."""
    return LabelSource(small_spec(), LabelsSpec(path="labels.csv"), home, home / "small", {})


def archive(home: Path) -> Archive:
    return Archive(home / "small", "binary", small_model().card.schema_)


def make_home(home: Path, *, at: Path | None = None) -> None:
    """Write all files below `home`, the stack's as if the home were `at`."""
    live(home)
    write_small(home)
    model_home, spec = home / "small", small_spec()
    data = store_dataset(small_frame(), spec.event_time, model_home, ("test",), NOW)
    set_base(model_home, data.manifest.fingerprint, spec, small_model().compiled.features.kinds)
    save_state(model_home, derive_state(model_home) if load_results(model_home) else MonitorState())
    start(model_home, REQUEST, NOW)
    write_trouble(model_home, Trouble(since=NOW, reason="a test"))
    file, old = home / "labels.csv", (NOW - timedelta(hours=2)).timestamp()
    file.write_text("id,label\nrow-1,1\nrow-2,0\n")
    os.utime(file, (old, old))
    label_source(home).poll(archive(home), (), NOW)
    drop_unmatched(archive(home), timedelta(days=90), NOW)
    _write_stack(home, at or home)


def _write_stack(home: Path, at: Path) -> None:
    places = {"home": at, "directory": at, "socket": at / "none.sock"}
    models = (HostedModel(name="small", spec=at / "small.toml"),)
    address = {"store": Address(url="redis://127.0.0.1:9"), "prefect": Address(url="http://127.0.0.1:9/api")}
    stack = Stack(**places, **address, started_at=NOW, models=models)
    write_spec_list(home / "stack" / "specs.json", [at / "small.toml"])
    save_stack(stack.model_copy(update={"home": home}))
    for file in (home / "stack" / "stack.json", home / "small" / "label_source" / "state.json"):
        file.write_text(file.read_text().replace(str(home), str(at)))


def shrink(home: Path) -> None:
    """Take out what other files of its kind show as well: a refused version, the table, two of three weeks of predictions."""
    shutil.rmtree(home / "registry" / "models" / "small" / "versions" / "2")
    (home / "rows.parquet").unlink()
    for day in sorted((home / "small" / "predictions").glob("date=*"))[:14]:
        shutil.rmtree(day)


def leave_queue(home: Path, rows: int = 5) -> str:
    """The disk queue of a process that died with it; returns its source."""
    spool, batch = home / "small" / "service" / "spool", predicted(small_model(), small_frame(rows=rows, seed=5))
    progress = create_progress(spool)
    queue = DiskQueue(spool, progress.source)
    queue.write([Entry(0, rows, encode_batch(batch))])
    progress.answered = rows
    queue.close()
    progress.close()
    return progress.source


def stream_entries(store: redis.Redis) -> list[dict[str, Any]]:
    """The entries of the model's streams, as JSON takes them."""
    found = []
    for stream in (predictions_stream("small"), labels_stream("small"), dead_stream("small")):
        entries: Any = store.xrange(stream)
        for _, fields in entries:
            texts = {name.decode(): base64.b64encode(value).decode() for name, value in fields.items()}
            found.append({"stream": stream, "fields": texts})
    return found


def fill_streams(store: redis.Redis) -> PredictionBatch:
    """One entry in each of the three streams, as service and monitor write them; returns the one of predictions."""
    from monitoring.consumer import StreamConsumer

    model, frame = small_model(), small_frame(rows=5, seed=6)
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    store.xadd(predictions_stream("small"), {"no": "record"})
    consumer.read()
    serve(store, model, frame)
    return predicted(model, frame)


def registry(home: Path) -> Registry:
    return Registry(str(home / "registry"))


def main(target: Path) -> None:
    """Write a home of this release, with the entries of its streams; needs the store of REDIS_URL, which is emptied."""
    target = target.absolute()
    make_home(target, at=ELSEWHERE)
    shrink(target)
    leave_queue(target)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.flushdb()
        fill_streams(store)
        (target / STREAMS).write_text(json.dumps(stream_entries(store), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
