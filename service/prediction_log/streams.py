"""The streams: their names, and how a payload becomes an entry and comes back.

What a payload means is `perennial.record`'s matter; who reads the streams is `monitoring`'s.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import redis

from perennial.base import FORMAT, refuse_newer_format
from perennial.errors import RecordError

GROUP = "monitor"  # the consumer group that archives both streams
MARK_LIFE = timedelta(days=30)  # of a mark after its source last wrote; for machines that never came back: an end deletes it
_FORMAT, _BODY = b"v", b"b"

# Entries and mark in one step: what a try that timed out has written is seen by the next one, which writes it no second time.
_APPEND_AFTER = """
local at = redis.call('GET', KEYS[2])
if at and at ~= ARGV[1] then return at end
for number = 5, #ARGV do redis.call('XADD', KEYS[1], '*', 'v', ARGV[4], 'b', ARGV[number]) end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
"""


def predictions_stream(model: str) -> str:
    return f"perennial:{model}:predictions"


def labels_stream(model: str) -> str:
    return f"perennial:{model}:labels"


def dead_stream(model: str) -> str:
    """The stream of entries that cannot be read, each with the reason."""
    return f"perennial:{model}:dead"


def source_mark(model: str, source: str) -> str:
    """Where the store keeps how far it has the predictions of one source, by position."""
    return f"perennial:{model}:written:{source}"


def from_entry(fields: Mapping[bytes, bytes]) -> bytes:
    """The payload of an entry; raises NewerFormat, or RecordError when the entry is not one of ours."""
    found = fields.get(_FORMAT, b"")
    number = int(found) if found.isdigit() and len(found) < 10 else 0
    refuse_newer_format(number, "the stream entry")
    if number != FORMAT:
        raise RecordError(f"entry format {fields.get(_FORMAT)!r:.40} is unknown; this release reads format {FORMAT}")
    if _BODY not in fields:
        raise RecordError(f"entry has no field {_BODY.decode()!r}; it has {sorted(map(repr, fields))!r:.80}")
    return fields[_BODY]


def to_entry(payload: bytes) -> dict[bytes, bytes]:
    """The fields of an entry with this payload; the inverse of `from_entry`."""
    return {_FORMAT: b"%d" % FORMAT, _BODY: payload}


def append(store: redis.Redis, stream: str, payload: bytes) -> None:
    """Add one entry; returns when the store has it."""
    entry: Any = to_entry(payload)  # redis-py's types are narrower than what it takes
    store.xadd(stream, entry)


def append_after(store: redis.Redis, stream: str, mark: str, expected: int, end: int, payloads: Sequence[bytes]) -> int:
    """Add entries that end at position `end`, if the source's mark stands at `expected`; returns where it stands then.

    A mark that stands elsewhere means that the store knows better than the caller what it has: nothing is added. A mark that
    is not there does not hinder.
    """
    life = str(int(MARK_LIFE.total_seconds()))
    return int(store.eval(_APPEND_AFTER, 2, stream, mark, str(expected), str(end), life, str(FORMAT), *payloads))
