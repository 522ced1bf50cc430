"""Ports of the local stack."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from deployments.stack.ports import PortReservations, is_free, reachable
from perennial.errors import StackError

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not is_free(LOOPBACK, taken)
    assert not is_free("0.0.0.0", taken)


def test_the_next_free_port_is_found(taken: int, ports: PortReservations) -> None:
    found = ports.find(LOOPBACK, taken)
    assert found > taken
    assert is_free(LOOPBACK, found)


def test_a_port_of_another_program_is_passed_over(taken: int, ports: PortReservations) -> None:
    assert ports.find(LOOPBACK, taken, {taken + 1}) > taken + 1


def test_two_stacks_that_start_together_get_different_ports(taken: int, ports: PortReservations) -> None:
    mine = ports.find(LOOPBACK, taken)
    with PortReservations() as others:
        assert others.find(LOOPBACK, mine) != mine
        with pytest.raises(StackError, match="is taken"):
            others.claim(LOOPBACK, mine, "the port of the service", "PERENNIAL_PORT")


def test_a_port_is_given_back(taken: int) -> None:
    with PortReservations() as first:
        port = first.find(LOOPBACK, taken)
    with PortReservations() as second:
        assert second.claim(LOOPBACK, port, "the port of the service", "PERENNIAL_PORT") == port


def test_a_process_that_inherits_the_locks_keeps_the_ports_for_as_long_as_it_lives(taken: int) -> None:
    with PortReservations() as first:
        port = first.find(LOOPBACK, taken)
        holder = subprocess.Popen(["sleep", "60"], pass_fds=first.descriptors)
    with PortReservations() as second:
        assert second.find(LOOPBACK, port) != port
        second.own = (port,)
        assert second.find(LOOPBACK, port) == port
    holder.kill()
    holder.wait(10)
    with PortReservations() as third:
        assert third.find(LOOPBACK, port) == port


def test_a_port_asked_for_by_name_is_never_replaced(taken: int, ports: PortReservations) -> None:
    with pytest.raises(StackError, match=rf"port {taken} on {LOOPBACK} is taken, but PERENNIAL_PORT asks for it as the port of"):
        ports.claim(LOOPBACK, taken, "the port of the service", "PERENNIAL_PORT")


def test_a_server_on_every_interface_is_reached_on_loopback() -> None:
    assert reachable("0.0.0.0") == LOOPBACK
    assert reachable("10.0.0.7") == "10.0.0.7"
