"""Ports of the local stack."""

import socket
from collections.abc import Iterator

import pytest

from deployments.ports import claim_port, find_port, is_free, reachable
from perennial.errors import StackError

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not is_free(LOOPBACK, taken)
    assert not is_free("0.0.0.0", taken)


def test_the_next_free_port_is_found(taken: int) -> None:
    found = find_port(LOOPBACK, taken)
    assert found > taken
    assert is_free(LOOPBACK, found)


def test_a_port_of_another_part_is_passed_over(taken: int) -> None:
    first = find_port(LOOPBACK, taken)
    assert find_port(LOOPBACK, taken, {first}) > first


def test_a_port_asked_for_by_name_is_never_replaced(taken: int) -> None:
    with pytest.raises(StackError, match=rf"port {taken} on {LOOPBACK} is taken, but PERENNIAL_PORT asks for it as the port of"):
        claim_port(LOOPBACK, taken, "the port of the service", "PERENNIAL_PORT")


def test_a_free_port_asked_for_by_name_is_taken(taken: int) -> None:
    free = find_port(LOOPBACK, taken)
    assert claim_port(LOOPBACK, free, "the port of the service", "PERENNIAL_PORT") == free


def test_a_server_on_every_interface_is_reached_on_loopback() -> None:
    assert reachable("0.0.0.0") == LOOPBACK
    assert reachable("10.0.0.7") == "10.0.0.7"
