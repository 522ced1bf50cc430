"""The stream publisher: entries whose boundaries differ between two tries are in the stream once, by their rows."""

import redis

from perennial.record import encode_batch
from service.prediction_log.entries import Entry
from service.prediction_log.publisher import Published, StreamPublisher
from tests.service.prediction_log.test_entries import batch
from tests.service.prediction_log.test_log import arrived, names


def entry(start: int, end: int) -> Entry:
    return Entry(start, end, encode_batch(batch(start, rows=end - start)))


def publisher(store: redis.Redis, url: str, position: int = 0) -> StreamPublisher:
    return StreamPublisher(store, url, "small", "source", position)


def test_a_try_that_was_carried_out_later_and_a_larger_one_write_each_row_once(store: redis.Redis, store_url: str) -> None:
    late, mine = publisher(store, store_url), publisher(store, store_url)
    assert late.publish([entry(0, 3)]) == (3, 0), "as a frozen store does after the caller has given up"
    assert mine.publish([entry(0, 5)]) == (3, 0), "the store has more than the caller knew: nothing is added"
    assert mine.publish([entry(0, 5), entry(5, 6)]) == (6, 0)
    assert arrived(store_url) == names(6)
    assert mine.publish([entry(0, 5)]) == Published(6, 0)


def test_rows_that_are_in_no_entry_are_counted(store: redis.Redis, store_url: str) -> None:
    one = publisher(store, store_url)
    one.publish([entry(0, 3)])
    assert one.publish([entry(5, 6)]) == (6, 2)
    assert publisher(store, store_url, position=0).publish([entry(7, 8)]) == (6, 0), "nothing was added, nothing is counted"


def test_the_position_is_the_stores_or_what_was_known_when_the_store_was_emptied(store: redis.Redis, store_url: str) -> None:
    publisher(store, store_url).publish([entry(0, 3)])
    other = publisher(store, store_url, position=1)
    other.load_position()
    assert other.position == 3
    store.flushdb()
    other.load_position()
    assert other.position == 3
