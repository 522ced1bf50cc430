"""Ports of the local stack: asked for, remembered or found; it only looks, and never keeps one open."""

import socket
from collections.abc import Container

from perennial.errors import StackError

TRIES = 200
"""How many ports above the preferred one are looked at; more taken ones in a row mean something else is wrong."""

PROBE_TIMEOUT = 0.5
"""Seconds to connect on loopback, where a listener answers at once."""

ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - only recognised, never bound by default
"""Addresses that mean every interface; a client reaches them on loopback."""


def reachable(host: str) -> str:
    """The address at which a client on this machine finds a server that listens on `host`."""
    return "127.0.0.1" if host in ANYWHERE else host


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on `port` and we may."""
    return not _answers(reachable(host), port) and _can_bind(host, port)


def find_port(host: str, preferred: int, taken: Container[int] = ()) -> int:
    """The first free port from `preferred` upwards that is not in `taken`; raises StackError."""
    last = min(preferred + TRIES, 65_536)
    for port in range(preferred, last):
        if port not in taken and is_free(host, port):
            return port
    raise StackError(f"no free port from {preferred} to {last - 1} on {host}: end what listens there, or ask for another port")


def claim_port(host: str, port: int, what: str, variable: str) -> int:
    """The port that was asked for by name; raises StackError naming it when somebody listens there."""
    if is_free(host, port):
        return port
    raise StackError(
        f"port {port} on {host} is taken, but {variable} asks for it as {what}: end what listens there, or change it"
    )


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT):
            return True
    except OSError:
        return False


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Without it the port of a server that has just ended would look taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
