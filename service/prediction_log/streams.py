"""The streams: their names, and how a payload becomes an entry and comes back.

What a payload means is `perennial.record`'s matter; who reads the streams is `monitoring`'s.
"""

from collections.abc import Mapping, Sequence

import redis

from perennial.errors import RecordError

GROUP = "monitor"
"""The consumer group that archives both streams."""

FORM = b"1"
"""Version of the entry's own form; the payload inside carries its own."""

MARK_LIFE = 30 * 24 * 3600
"""Seconds a mark is kept after its source last wrote; a clean end deletes it, so this is for machines that never came back."""

_VERSION = b"v"
_BODY = b"b"

_APPEND_AFTER = """
local at = redis.call('GET', KEYS[2])
if at and at ~= ARGV[1] then return at end
for number = 4, #ARGV do redis.call('XADD', KEYS[1], '*', 'v', '%s', 'b', ARGV[number]) end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
""" % FORM.decode()  # noqa: UP031 - braces and percent signs of Lua stay readable
"""Entries and mark in one step: what a try that timed out has written is seen by the next one, which writes it no second time."""


def predictions_stream(model: str) -> str:
    """Where every answered prediction goes."""
    return f"perennial:{model}:predictions"


def labels_stream(model: str) -> str:
    """Where every label goes."""
    return f"perennial:{model}:labels"


def dead_stream(model: str) -> str:
    """Where entries go that nobody can read, with the reason."""
    return f"perennial:{model}:dead"


def mark_of(model: str, source: str) -> str:
    """Where the store keeps how far it has the predictions of one source, by position."""
    return f"perennial:{model}:written:{source}"


def to_entry(payload: bytes) -> dict[bytes, bytes]:
    """The fields of the stream entry that carries `payload`."""
    return {_VERSION: FORM, _BODY: payload}


def from_entry(fields: Mapping[bytes, bytes]) -> bytes:
    """The payload of an entry; raises RecordError when the entry is not one of ours."""
    if fields.get(_VERSION) != FORM:
        raise RecordError(f"entry form {fields.get(_VERSION)!r:.40} is unknown; this release reads {FORM!r}")
    if _BODY not in fields:
        raise RecordError(f"entry has no field {_BODY.decode()!r}; it has {sorted(map(repr, fields))!r:.80}")
    return fields[_BODY]


def append(store: redis.Redis, stream: str, payload: bytes) -> None:
    """Add one entry; returns when the store has it."""
    store.xadd(stream, to_entry(payload))  # type: ignore[arg-type]  # redis-py's type is invariant in its key union


def append_after(store: redis.Redis, stream: str, mark: str, expected: int | None, end: int, payloads: Sequence[bytes]) -> int:
    """Add entries that end at position `end`, if the source's mark stands at `expected`; returns where it stands then.

    A mark that stands elsewhere means that the store knows better than the caller what it has: nothing is added. A mark that
    is not there does not hinder.
    """
    known = "" if expected is None else str(expected)
    return int(store.eval(_APPEND_AFTER, 2, stream, mark, known, str(end), str(MARK_LIFE), *payloads))


def append_all(store: redis.Redis, stream: str, payloads: Sequence[bytes]) -> None:
    """Add entries in order, all or none of them, in one round trip."""
    pipeline = store.pipeline(transaction=True)
    for payload in payloads:
        pipeline.xadd(stream, to_entry(payload))  # type: ignore[arg-type]
    pipeline.execute()
