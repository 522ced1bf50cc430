"""Ports of the local stack: a port that a setting names, that of last time, or the first free one from it upwards.

A port is free when a connection to it is refused and we may bind to it. Between that look and the server that listens lie
seconds, so each port handed out is locked by a file of the user, and no other stack is given it. The supervisor inherits those
locks: while it lives, a part that was killed comes back on its port, whatever other stack starts in between.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Container
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

from perennial.errors import StackError

MAX_TRIES = 200  # ports looked at from the preferred one upwards; more taken ones in a row mean something else is wrong
CONNECT_TIMEOUT = timedelta(seconds=0.5)  # to connect on loopback, where a listener answers at once
ALL_INTERFACES = ("0.0.0.0", "::", "")  # noqa: S104 - only recognised, never bound by default


def reachable(host: str) -> str:
    """The address at which a client on this machine finds a server that listens on `host`: loopback for every interface."""
    return "127.0.0.1" if host in ALL_INTERFACES else host


def is_free(host: str, port: int) -> bool:
    """Whether no server listens on `port` and we may."""
    with suppress(OSError), socket.create_connection((reachable(host), port), timeout=CONNECT_TIMEOUT.total_seconds()):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # It sets SO_REUSEADDR, without which the port of a server that has just ended would look taken for a minute.
    with suppress(OSError), socket.create_server((host, port), family=family):
        return True
    return False


class PortReservations(ExitStack):
    """Ports handed out while a stack is planned and starts; until the block is left no other stack is given the same ones.

    Those in `own` are the ports of the stack that runs, whose supervisor has their locks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: Container[int] = ()
        self.descriptors: list[int] = []
        """Of the locks: a process that inherits them keeps the ports for as long as it lives."""

    def find(self, host: str, preferred: int, taken: Container[int] = ()) -> int:
        """The first free port from `preferred` upwards that is not in `taken`; raises StackError."""
        last = min(preferred + MAX_TRIES, 65_536)
        for port in range(preferred, last):
            if port not in taken and self._lock_port(port) and is_free(host, port):
                return port
        tried = f"from {preferred} to {last - 1} on {host}"
        raise StackError(f"no free port {tried}: end what listens there, or ask for another port")

    def claim(self, host: str, port: int, what: str, variable: str) -> int:
        """The port that was asked for by name; raises StackError naming it when it is taken."""
        if self._lock_port(port) and is_free(host, port):
            return port
        fix = "end what listens there, or change it"
        raise StackError(f"port {port} on {host} is taken, but {variable} asks for it as {what}: {fix}")

    def lock(self, file: Path) -> bool:
        """Hold the lock of a file until the block is left; False where another process holds it."""
        return self._lock(file) is not None

    def _lock_port(self, port: int) -> bool:
        if port in self.own:
            return True
        directory = Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-ports"
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = self._lock(directory / str(port))
        self.descriptors += [descriptor] if descriptor is not None else []
        return descriptor is not None

    def _lock(self, file: Path) -> int | None:
        with suppress(OSError):
            descriptor = self.enter_context(file.open("w")).fileno()
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        return None
