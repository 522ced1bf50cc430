"""The wire form of predictions and labels: what goes in comes out, and nonsense is named."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import NewerFormat, RecordError
from perennial.record import LabelBatch, PredictionBatch, decode_label_batch, decode_prediction_batch, encode_batch

times = st.datetimes(timezones=st.just(UTC))
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(2**53), 2**53)
scalars = st.none() | st.booleans() | integers | floats | texts


@st.composite
def prediction_batches(draw: st.DrawFn) -> PredictionBatch:
    rows = draw(st.integers(0, 8))

    def column(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
        return st.lists(values, min_size=rows, max_size=rows).map(tuple)

    return PredictionBatch(
        model=draw(texts),
        version=draw(st.integers(1, 10_000)),
        served_at=draw(times),
        ids=draw(column(texts)),
        event_times=draw(column(times)),
        columns=draw(st.dictionaries(texts, column(scalars), max_size=4)),
        scores=draw(column(floats) | column(st.tuples(floats, floats, floats))),
        traces=tuple(draw(st.lists(texts, max_size=3))),
    )


@given(prediction_batches())
def test_a_prediction_batch_survives_the_wire(batch: PredictionBatch) -> None:
    decoded = decode_prediction_batch(encode_batch(batch))
    assert decoded == batch
    # True == 1 in Python, so the types are compared as well.
    assert types(decoded) == types(batch)


def types(batch: PredictionBatch) -> dict[str, list[type]]:
    return {name: list(map(type, cells)) for name, cells in batch.columns.items()}


@given(st.lists(st.tuples(texts, st.booleans() | integers | floats | texts, st.none() | times), max_size=8), times)
def test_a_label_batch_survives_the_wire(rows: list[tuple[str, object, datetime | None]], now: datetime) -> None:
    ids, labels, known = (tuple(column) for column in zip(*rows, strict=True)) if rows else ((), (), ())
    batch = LabelBatch(model="m", received_at=now, ids=ids, labels=labels, event_times=known)
    decoded = decode_label_batch(encode_batch(batch))
    assert decoded == batch
    # True == 1 in Python, so the types are compared as well.
    assert list(map(type, decoded.labels)) == list(map(type, batch.labels))


@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_a_record_error(payload: bytes) -> None:
    for decode in (decode_prediction_batch, decode_label_batch):
        with pytest.raises(RecordError):
            decode(payload)


NOON = "2024-07-01T12:00:00Z"
GOOD = {
    "format": 1,
    "model": "m",
    "version": 1,
    "served_at": NOON,
    "ids": ["a"],
    "event_times": [NOON],
    "columns": {"x": [1]},
    "scores": [0.5],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "format 0 is unknown"),
        ({"format": None}, "format None is unknown"),
        ({"ids": ["a", "b"]}, "event_times has 1 values for 2 ids"),
        ({"columns": {"x": []}}, r"columns\.x has 0 values for 1 ids"),
        ({"ids": [7]}, r"Expected `str`, got `int` - at `\$\.ids\[0\]`"),
        ({"ids": None}, r"Expected `array`, got `null` - at `\$\.ids`"),
        ({"event_times": [0.5]}, r"Expected `datetime`, got `float` - at `\$\.event_times\[0\]`"),
        ({"event_times": ["2024-07-01T12:00:00"]}, r"with a timezone component - at `\$\.event_times\[0\]`"),
        ({"event_times": ["10000-01-01T00:00:00Z"]}, r"Invalid RFC3339 encoded datetime - at `\$\.event_times\[0\]`"),
        ({"scores": [["high"]]}, r"Expected `float`, got `str` - at `\$\.scores\[0\]\[0\]`"),
        ({"scores": ["high"]}, r"got `str` - at `\$\.scores\[0\]`"),
        ({"columns": {"x": [[1]]}}, r"got `array` - at `\$\.columns\.x\[0\]`"),
        ({"columns": []}, r"Expected `object`, got `array` - at `\$\.columns`"),
        ({"version": "1"}, r"Expected `int`, got `str` - at `\$\.version`"),
        ({"version": True}, r"Expected `int`, got `bool` - at `\$\.version`"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        decode_prediction_batch(orjson.dumps({**GOOD, **change}))


def test_a_record_of_a_newer_release_is_called_that() -> None:
    for decode in (decode_prediction_batch, decode_label_batch):
        with pytest.raises(NewerFormat, match="the record was written by a newer release"):
            decode(orjson.dumps({**GOOD, "format": 2}))


def test_the_error_never_repeats_a_value() -> None:
    with pytest.raises(RecordError) as caught:
        decode_prediction_batch(orjson.dumps({**GOOD, "columns": {"x": [{"secret": "4711"}]}}))
    assert "4711" not in str(caught.value)
