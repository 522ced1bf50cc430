"""Dead letters: stream entries that could not be read, or do not fit the model, kept in a stream of their own.

    perennial:{model}:dead    v, stream, id, reason, b (the payload), field:NAME for each other field of the entry

An entry is moved in one step: it is added here, and acknowledged and deleted where it was, so it holds up no backlog. Sending it
again puts it back into its stream as it was, in one step too; what the archive has already is not stored a second time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis

from perennial.base import FORMAT, refuse_newer_format
from perennial.errors import RecordError
from service.prediction_log.streams import GROUP, dead_stream, labels_stream, predictions_stream, to_entry

PAGE = 500  # entries read at once
_FIELD = b"field:"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry that was put aside: its id here, the stream and the id that it had, why, and its fields as they were."""

    id: str
    stream: str
    entry: str
    reason: str
    fields: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """When it was put aside, by the store's clock."""
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)

    @property
    def text(self) -> str:
        """What it carries: its payload, or all of its fields where it has none; bytes that are no UTF-8 are escaped."""
        if (payload := self.fields.get(b"b")) is not None:
            return payload.decode(errors="backslashreplace")
        return " ".join(f"{_shown(name)}={_shown(value)}" for name, value in self.fields.items())


def put_aside(store: redis.Redis, model: str, stream: str, id_: bytes, fields: Mapping[bytes, bytes], reason: str) -> None:
    """Move an entry of a stream to the dead letters."""
    others = {_FIELD + name: value for name, value in fields.items() if name != b"b"}
    about = {b"v": b"%d" % FORMAT, b"stream": stream, b"id": id_, b"reason": reason, b"b": fields.get(b"b", b"")}
    entry: Any = about | others  # redis-py's types are narrower than what it takes
    with store.pipeline(transaction=True) as step:
        step.xadd(dead_stream(model), entry)
        step.xack(stream, GROUP, id_)
        step.xdel(stream, id_)
        step.execute()


def count_dead_letters(store: redis.Redis, model: str) -> int:
    """How many there are."""
    return int(store.xlen(dead_stream(model)))


def read_dead_letters(store: redis.Redis, model: str) -> Iterator[DeadLetter]:
    """All of them, oldest first; raises NewerFormat."""
    after, read = "-", store.xrange
    while entries := list[Any](read(dead_stream(model), min=after, count=PAGE)):  # type: ignore[arg-type]
        for id_, fields in entries:
            yield _letter(id_.decode(), fields)
        after = f"({entries[-1][0].decode()}"


def resend(store: redis.Redis, model: str, letters: Iterable[DeadLetter]) -> int:
    """Put entries back into their streams; returns how many. Raises RecordError for one whose stream is not the model's."""
    found = tuple(letters)
    for letter in found:
        if letter.stream not in (predictions_stream(model), labels_stream(model)) or not letter.fields:
            raise RecordError(
                f"entry {letter.id} came from {letter.stream!r} with {len(letter.fields)} fields: it can be deleted only"
            )
    for letter in found:
        entry: Any = dict(letter.fields)
        with store.pipeline(transaction=True) as step:
            step.xadd(letter.stream, entry)
            step.xdel(dead_stream(model), letter.id)
            step.execute()
    return len(found)


def delete(store: redis.Redis, model: str, letters: Iterable[DeadLetter]) -> int:
    """Delete entries for good; returns how many."""
    ids = [letter.id for letter in letters]
    return int(store.xdel(dead_stream(model), *ids)) if ids else 0


def _letter(id_: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    number = fields.get(b"v", b"0")  # the first release wrote none, and of an entry its payload only
    refuse_newer_format(int(number) if number.isdigit() else None, f"entry {id_} of the dead letters")
    payload = fields.get(b"b", b"")
    was = {name.removeprefix(_FIELD): value for name, value in fields.items() if name.startswith(_FIELD)}
    if payload:
        was = {**was, b"b": payload} if b"v" in fields else to_entry(payload)
    stream, entry, reason = (fields.get(name, b"").decode(errors="backslashreplace") for name in (b"stream", b"id", b"reason"))
    return DeadLetter(id_, stream, entry, reason, was)


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
