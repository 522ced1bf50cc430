"""Faults of data and of resources on a living stack: each is done, lasts for a while, and is over when its function returns."""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from perennial.record import PredictionBatch, encode_batch
from service.prediction_log.streams import append, labels_stream, predictions_stream
from tests.faults.episodes.accounting import Answer
from tests.faults.episodes.clients import Clients
from tests.faults.episodes.plan import Fault
from tests.faults.episodes.processes import pulse, victims
from tests.faults.episodes.room import filled
from tests.support.stack import Stage
from tests.support.waiting import wait_until

FAR = ("2099-01-01T00:00:00+00:00", "9999-06-01T00:00:00+00:00", "1969-07-20T20:17:00+00:00", "0001-01-02T00:00:00+00:00")
"""Event times of clients whose clocks are wrong."""

COPIES = 3


def store_out_of_memory(loop: Stage, fault: Fault, _: Clients) -> None:
    """Give the store less memory than it has taken: it refuses every write."""
    store = loop.loop.store
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", 1)
    try:
        _pause(fault.seconds)
    finally:
        store.config_set("maxmemory", 0)


def disk_full(loop: Stage, fault: Fault, _: Clients) -> None:
    """No byte more fits on the disk of the stack's home."""
    with filled(loop.stack.home):
        _pause(fault.seconds)


def slow_disk(loop: Stage, fault: Fault, _: Clients) -> None:
    """Whoever writes to the disk waits nearly all the time, and Prefect's database is locked by a write that takes long."""
    database = sqlite3.connect(loop.stack.state_dir / "prefect" / "prefect.db", isolation_level=None, timeout=60)
    try:
        database.execute("BEGIN IMMEDIATE")
        pulse(lambda: [*victims(loop, "store"), *victims(loop, "monitor")], fault.seconds, rest=0.4, work=0.1)
    finally:
        database.close()


def half_written_version(loop: Stage, fault: Fault, _: Clients) -> None:
    """What a publisher leaves that dies before the manifest: it has the next number and some files."""
    versions = loop.loop.home.parent / "registry" / "models" / loop.spec.name
    taken = {int(path.name) for path in (versions / "numbers").iterdir()}
    number = max(taken, default=0) + 1
    (versions / "numbers" / str(number)).touch()
    folder = versions / "versions" / str(number)
    folder.mkdir()
    (folder / "model.txt").write_bytes(b"tree\nversion=v4\nhalf")


def garbage_in_streams(loop: Stage, fault: Fault, _: Clients) -> None:
    """Entries that are none of ours, in both streams."""
    garbage: list[dict[Any, Any]] = [{"no": "record"}, {b"v": b"1", b"b": b"\xff\x00{"}, {b"v": b"1"}, {b"v": b"-7", b"b": b"[]"}]
    for stream in (predictions_stream, labels_stream):
        for entry in garbage:
            loop.loop.store.xadd(stream(loop.spec.name), entry)


def poisoned_record(loop: Stage, fault: Fault, _: Clients) -> None:
    """Well-formed records that no service of ours wrote: foreign columns, impossible versions, times and scores."""
    good: dict[str, Any] = {
        "model": loop.spec.name,
        "version": 1,
        "served_at": datetime.now(UTC),
        "ids": ("forged",),
        "event_times": (datetime(2024, 1, 2, tzinfo=UTC),),
        "columns": {"amount": (0.5,), "shop": ("north",)},
        "scores": (0.5,),
    }
    wrong: list[dict[str, Any]] = [
        {"version": 2**63 - 1},
        {"version": -1},
        {"columns": {"amount": ("many",), "shop": (7,)}},
        {"columns": {"foreign": (1.0,)}},
        {"event_times": (datetime(1, 1, 1, tzinfo=UTC),)},
        {"scores": ((0.1, 0.9),)},
        {"ids": (), "event_times": (), "scores": (), "columns": {"amount": (), "shop": ()}},
    ]
    for number, change in enumerate(wrong):
        record = PredictionBatch(**{**good, "ids": (f"forged-{number}",), **change})
        append(loop.loop.store, predictions_stream(loop.spec.name), encode_batch(record))


def clock_jump(loop: Stage, fault: Fault, clients: Clients) -> None:
    """Clients whose clocks are decades wrong ask, and their rows are answered and archived as all others."""
    rows = [
        {"id": f"jump-{time.monotonic_ns()}-{number}", "event_time": at, "amount": 0.1, "shop": "north"}
        for number, at in enumerate(FAR * 2)
    ]
    for row in rows:
        reply = _ask(loop, row)
        if reply.is_success:
            told = reply.json()
            clients.answered[str(row["id"])] = Answer(told["version"], told["predictions"][0]["score"], again=True)


def duplicate_delivery(loop: Stage, fault: Fault, _: Clients) -> None:
    """Entries of both streams come several times more, and so does the event of the newest decision."""
    store = loop.loop.store
    for stream in (predictions_stream(loop.spec.name), labels_stream(loop.spec.name)):
        entries: Any = wait_until(partial(store.xrange, stream, count=20), 30, f"entries in {stream}")
        for _, fields in entries * COPIES:
            store.xadd(stream, fields)
    _repeat_event(loop)


DATA_FAULTS: Mapping[str, Callable[[Stage, Fault, Clients], None]] = {
    "store out of memory": store_out_of_memory,
    "disk full": disk_full,
    "slow disk": slow_disk,
    "half-written version": half_written_version,
    "garbage in streams": garbage_in_streams,
    "poisoned record": poisoned_record,
    "clock jump": clock_jump,
    "duplicate delivery": duplicate_delivery,
}


def _repeat_event(loop: Stage) -> None:
    """Start the flow of the newest decision twice more, as an automation does that delivers an event again."""
    runs = loop.history.runs("retrain")
    if runs:
        event = loop.parameters(runs[-1]).get("event")
        for _ in range(2):
            loop.history.start("retrain", {"event": event})


def _ask(loop: Stage, row: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{loop.loop.service_url}/predict", json={"instances": [row]}, timeout=30, trust_env=False)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
