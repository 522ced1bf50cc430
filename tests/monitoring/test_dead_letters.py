"""Dead letters: they hold up no backlog, are kept whole, and come back into the prediction log when they are sent again."""

from pathlib import Path

import pytest
import redis

from monitoring.archive import Archive
from monitoring.consumer import StreamConsumer
from monitoring.dead_letters import count_dead_letters, delete, read_dead_letters, resend
from perennial.errors import NewerFormat, RecordError
from perennial.record import encode_batch
from service.prediction_log.streams import append, dead_stream, labels_stream, predictions_stream, to_entry
from tests.monitoring.streams import predicted, serve
from tests.support.models import small_frame, small_model

MODEL, FRAME = small_model(), small_frame(rows=48, seed=1)
PREDICTIONS, DEAD = predictions_stream("small"), dead_stream("small")
FOREIGN = {b"v": b"1", b"b": encode_batch(predicted(MODEL, FRAME.head(1))).replace(b'"small"', b'"large"')}


@pytest.fixture
def consumer(store: redis.Redis) -> StreamConsumer:
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    return consumer


@pytest.mark.parametrize("last", [True, False])
def test_a_dead_letter_does_not_stay_in_its_stream(
    store: redis.Redis, consumer: StreamConsumer, last: bool, tmp_path: Path
) -> None:
    if last:
        serve(store, MODEL, FRAME, labels=False)
    store.xadd(PREDICTIONS, {"no": "record"})
    if not last:
        serve(store, MODEL, FRAME, labels=False)
    consumer.ingest(consumer.read(), Archive(tmp_path, "binary", MODEL.card.schema_))
    assert (store.xlen(PREDICTIONS), count_dead_letters(store, "small")) == (0, 1)


@pytest.mark.parametrize("fields", [{b"other": b"th\xffing", b"v": b"1"}, {b"v": b"9", b"b": b"{}"}, FOREIGN])
def test_an_entry_is_sent_again_as_it_was(store: redis.Redis, consumer: StreamConsumer, fields: dict[bytes, bytes]) -> None:
    id_ = store.xadd(PREDICTIONS, fields)  # type: ignore[arg-type]
    consumer.read()
    (letter,) = read_dead_letters(store, "small")
    assert (letter.stream, letter.entry.encode(), letter.fields) == (PREDICTIONS, id_, fields)
    assert resend(store, "small", [letter]) == 1
    assert count_dead_letters(store, "small") == 0
    ((_, again),) = store.xrange(PREDICTIONS)  # type: ignore[misc]
    assert again == fields


def test_what_is_sent_again_is_archived_once(store: redis.Redis, consumer: StreamConsumer, tmp_path: Path) -> None:
    """As after a spec was corrected, or a newer release came back: the monitor that could not read it now can."""
    archive = Archive(tmp_path, "binary", MODEL.card.schema_)
    stranger = StreamConsumer(store, "large")
    stranger.ensure_groups()
    append(store, predictions_stream("large"), encode_batch(predicted(MODEL, FRAME)))
    stranger.read()
    (letter,) = read_dead_letters(store, "large")
    with pytest.raises(RecordError, match="can be deleted only"):
        resend(store, "small", [letter])
    append(store, PREDICTIONS, letter.fields[b"b"])
    append(store, PREDICTIONS, letter.fields[b"b"])
    assert consumer.ingest(consumer.read(), archive).predictions == FRAME.height


def test_entries_of_the_first_release_are_read(store: redis.Redis) -> None:
    payload = encode_batch(predicted(MODEL, FRAME))
    store.xadd(DEAD, {"stream": labels_stream("small"), "id": "1-0", "reason": "why", "b": payload})
    store.xadd(DEAD, {"stream": labels_stream("small"), "id": "2-0", "reason": "why", "b": b""})
    whole, empty = read_dead_letters(store, "small")
    assert (whole.fields, empty.fields) == (to_entry(payload), {})
    with pytest.raises(RecordError, match="can be deleted only"):
        resend(store, "small", [whole, empty])
    assert delete(store, "small", [empty]) == 1
    assert resend(store, "small", read_dead_letters(store, "small")) == 1


def test_dead_letters_of_a_newer_release_are_refused_by_name(store: redis.Redis) -> None:
    store.xadd(DEAD, {"v": "2", "who": "knows"})
    with pytest.raises(NewerFormat, match=r"entry \d+-0 of the dead letters was written by a newer release"):
        list(read_dead_letters(store, "small"))
