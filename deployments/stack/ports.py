"""Ports of the local stack: a port that a setting names, that of last time, or the first free one from it upwards.

A port is free when a connection to it is refused and we may bind to it. Between that look and the server that listens lie
seconds, so each port handed out is locked by a file of the user until the stack has started, and no other stack is given it.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Container
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from perennial.errors import StackError

MAX_TRIES = 200
"""How many ports above the preferred one are looked at; more taken ones in a row mean something else is wrong."""

CONNECT_TIMEOUT = timedelta(seconds=0.5)
"""To connect on loopback, where a listener answers at once."""

ALL_INTERFACES = ("0.0.0.0", "::", "")  # noqa: S104 - only recognised, never bound by default
"""Addresses that mean every interface; a client reaches them on loopback."""


def reachable(host: str) -> str:
    """The address at which a client on this machine finds a server that listens on `host`."""
    return "127.0.0.1" if host in ALL_INTERFACES else host


def is_free(host: str, port: int) -> bool:
    """Whether no server listens on `port` and we may."""
    return not _answers(reachable(host), port) and _can_bind(host, port)


class PortReservations(ExitStack):
    """Ports handed out while a stack is planned and starts; until the block is left no other stack is given the same ones."""

    def find(self, host: str, preferred: int, taken: Container[int] = ()) -> int:
        """The first free port from `preferred` upwards that is not in `taken`; raises StackError."""
        last = min(preferred + MAX_TRIES, 65_536)
        for port in range(preferred, last):
            if port not in taken and self._reserve(port) and is_free(host, port):
                return port
        raise StackError(
            f"no free port from {preferred} to {last - 1} on {host}: end what listens there, or ask for another port"
        )

    def claim(self, host: str, port: int, what: str, variable: str) -> int:
        """The port that was asked for by name; raises StackError naming it when it is taken."""
        if self._reserve(port) and is_free(host, port):
            return port
        fix = "end what listens there, or change it"
        raise StackError(f"port {port} on {host} is taken, but {variable} asks for it as {what}: {fix}")

    def _reserve(self, port: int) -> bool:
        directory = Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-ports"
        directory.mkdir(mode=0o700, exist_ok=True)
        lock = self.enter_context((directory / str(port)).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT.total_seconds()):
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
