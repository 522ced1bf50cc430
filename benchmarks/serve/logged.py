"""The log, counted: a server that logs must have logged every row that the load got an answer for, and no other server any."""

from typing import Any

import orjson
import redis

from benchmarks.serve.errors import BenchError
from service.prediction_log.streams import from_entry
from tests.support.waiting import wait_until

PAGE = 200
"""Entries read at once."""

PATIENCE = 30.0
"""Seconds for the log to catch up: rows that went to the spool come a little later."""


def take_logged(store: redis.Redis, stream: str | None, answered: int, where: str) -> None:
    """Count what was logged and remove it; raises BenchError when that is fewer rows than were answered."""
    if stream is None:
        if store.dbsize():
            raise BenchError(f"{where}: it should log nothing, but the store has {store.keys()[:3]!r}")
        return
    logged = 0

    def caught_up() -> bool:
        nonlocal logged
        logged += take(store, stream)
        return logged >= answered

    try:
        wait_until(caught_up, PATIENCE)
    except AssertionError:
        raise BenchError(f"{where}: {answered} rows were answered, but only {logged} were logged") from None


def drop_logged(store: redis.Redis, stream: str | None) -> None:
    """Forget what was logged before a measurement, such as its warm-up."""
    if stream is not None:
        take(store, stream)


def take(store: redis.Redis, stream: str) -> int:
    """Rows in the stream, which are removed: the store's memory and its file must not grow with the run."""
    rows = 0
    while entries := _page(store, stream):
        rows += sum(_rows(fields) for _, fields in entries)
        store.xdel(stream, *[name for name, _ in entries])
    return rows


def _page(store: redis.Redis, stream: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    entries: Any = store.xrange(stream, count=PAGE)
    return [(name, fields) for name, fields in entries]


def _rows(fields: dict[bytes, bytes]) -> int:
    """Ours carry many rows in an entry, the peer's one. Read as plain JSON: another checkout may have another format."""
    return len(orjson.loads(from_entry(fields))["ids"]) if b"v" in fields else 1
