"""What is in flight is counted once, and its bytes are bounded whatever clients announce."""

import pytest

from service.errors import ServiceError
from service.web import admission
from service.web.admission import InFlight


def test_a_request_counts_until_its_ticket_is_released() -> None:
    counted = InFlight(1)
    first, second = counted.admit(), counted.admit()
    assert counted.is_full
    second.release()
    assert not counted.is_full
    first.release()
    assert (counted.requests, counted.bytes) == (0, 0)


def test_bodies_beyond_the_bound_are_refused_and_one_alone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_BYTES", 100)
    counted = InFlight(10)
    alone = counted.admit()
    alone.reserve(150)
    other = counted.admit()
    with pytest.raises(ServiceError, match="2 requests are in flight") as caught:
        other.reserve(1)
    assert caught.value.code == "busy"
    other.release()
    alone.release()
    assert (counted.requests, counted.bytes) == (0, 0)
    third = counted.admit()
    third.reserve(60)
    third.reserve(40)
    assert counted.bytes == 100
