"""Entries of the streams: what goes in comes out, and what is not ours is refused."""

import pytest
import redis

from perennial.errors import NewerFormat, RecordError
from service.prediction_log.streams import (
    append,
    dead_stream,
    from_entry,
    labels_stream,
    predictions_stream,
)


def test_names_follow_the_contract() -> None:
    names = [name("flights") for name in (predictions_stream, labels_stream, dead_stream)]
    assert names == ["perennial:flights:predictions", "perennial:flights:labels", "perennial:flights:dead"]


def test_a_payload_comes_back_as_it_went_in(store: redis.Redis) -> None:
    append(store, "s", b"one")
    append(store, "s", b"two")
    append(store, "s", b"\x00\xff")
    assert [from_entry(fields) for _, fields in store.xrange("s")] == [b"one", b"two", b"\x00\xff"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "format None"),
        ({b"v": b"0", b"b": b"x"}, "format b'0'"),
        ({b"v": b"1" * 5_000, b"b": b"x"}, "format b'1111"),
        ({b"v": b"1"}, "no field 'b'"),
        ({b"b": b"x"}, "format None"),
    ],
)
def test_an_entry_that_is_not_ours_is_refused_with_the_reason(fields: dict[bytes, bytes], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        from_entry(fields)


def test_an_entry_of_a_newer_release_is_called_that() -> None:
    with pytest.raises(NewerFormat, match=r"stream entry was written by a newer release .* \(format 2, this one reads 1\)"):
        from_entry({b"v": b"2", b"b": b"x"})
