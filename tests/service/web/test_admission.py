"""What is in flight is counted once, and its bytes are bounded whatever clients announce."""

import pytest

from service.errors import ServiceError
from service.web import in_flight
from service.web.in_flight import InFlight, ModelInFlight
from service.web.routes import RouteTable


def test_a_request_counts_until_its_ticket_is_released() -> None:
    counted = InFlight(1)
    first, second = counted.admit(), counted.admit()
    assert counted.is_full
    second.release()
    assert not counted.is_full
    first.release()
    assert (counted.requests, counted.bytes) == (0, 0)


def test_bodies_beyond_the_bound_are_refused_and_one_alone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "MAX_BYTES", 100)
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


def test_a_flooded_model_leaves_places_to_the_others() -> None:
    whole = InFlight(8)
    flooded, second, quiet = (ModelInFlight(name, whole) for name in ("flooded", "second", "quiet"))

    def fill(model: ModelInFlight) -> int:
        """Requests that find a place until one does not."""
        found = 0
        while True:
            ticket = model.admit()
            if model.is_full:
                ticket.release()
                return found
            found += 1

    assert fill(flooded) == 4, "half"
    assert fill(second) == 2, "half of what is left"
    assert fill(quiet) == 1
    assert whole.requests == 7


def test_one_request_of_each_model_finds_a_place_while_there_is_one() -> None:
    whole = InFlight(2)
    first, second = ModelInFlight("first", whole), ModelInFlight("second", whole)
    first.admit()
    assert not first.is_full
    second.admit()
    assert not second.is_full
    second.admit()
    assert second.is_full


def test_the_bytes_of_one_model_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "MAX_BYTES", 100)
    whole = InFlight(10)
    heavy, light = ModelInFlight("heavy", whole), ModelInFlight("light", whole)
    heavy.admit().reserve(50)
    with pytest.raises(ServiceError, match="2 requests to 'heavy' are in flight"):
        heavy.admit().reserve(10)
    light.admit().reserve(20)


def test_every_address_has_its_route() -> None:
    routes = RouteTable(["bike", "flights"], 10)
    assert routes.find("/models/bike/predict").labels == ("/predict", "bike")
    assert routes.find("/models/bike").labels == ("/model", "bike")
    assert routes.find("/models/bike/ready").is_probe
    assert [routes.find(path).labels for path in ("/predict", "/models/none/predict", "/x")] == [("other", "")] * 3
    alone = RouteTable(["bike"], 10)
    assert alone.find("/predict") is alone.find("/models/bike/predict")
