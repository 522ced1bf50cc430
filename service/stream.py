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

_VERSION = b"v"
_BODY = b"b"


def predictions_stream(model: str) -> str:
    """Where every answered prediction goes."""
    return f"perennial:{model}:predictions"


def labels_stream(model: str) -> str:
    """Where every label goes."""
    return f"perennial:{model}:labels"


def dead_stream(model: str) -> str:
    """Where entries go that nobody can read, with the reason."""
    return f"perennial:{model}:dead"


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


def append_all(store: redis.Redis, stream: str, payloads: Sequence[bytes]) -> None:
    """Add entries in order, all or none of them, in one round trip."""
    pipeline = store.pipeline(transaction=True)
    for payload in payloads:
        pipeline.xadd(stream, to_entry(payload))  # type: ignore[arg-type]
    pipeline.execute()
