"""The channel's wire form: how requests and answers travel between one HTTP process and one inference worker.

Bytes in, frames out; no sockets and no event loop, so that both sides can use it and a test can cut it anywhere.
A frame is a fixed head, its first field the length of the body, and the body as the client sent it.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

REQUEST = Struct("=IIdB")
"""Length of the body, number of the request, time.monotonic() after which nobody waits, what is asked.

The monotonic clock is one for all processes of a machine.
"""

REPLY = Struct("=IIH")
"""Length of the body, number of the request, HTTP status."""

HELLO = 0
"""The number of a worker's first frame: it takes requests from now on."""

CHUNK = 262_144
"""Bytes read at once: what a socket holds at most by default on Linux."""

KNOCK, BYE = b"knock", b"bye"
"""What a worker's door is told: here is a channel for you; and finish, the service ends."""


@dataclass(frozen=True, slots=True)
class Door:
    """How a worker is reached by whoever has no channel to it yet; outlives the worker, so a new one finds who knocked.

    A pair of datagram sockets; through it an HTTP process hands over its worker's end of a channel.
    """

    inside: socket.socket
    outside: socket.socket

    def knock(self) -> socket.socket:
        """This end of a new channel; the other lies at the door. Raises BlockingIOError when too many lie there."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with theirs:
            try:
                socket.send_fds(self.outside, [KNOCK], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def close_worker(self) -> None:
        """Tell the worker to answer what it has and to end."""
        self.outside.send(BYE)

    def answer(self) -> tuple[bytes, list[socket.socket]]:
        """What lies at the door: a word, and the channels that came with it."""
        word, descriptors, _, _ = socket.recv_fds(self.inside, 16, 4)
        return word, [socket.socket(fileno=descriptor) for descriptor in descriptors]


def make_door() -> Door:
    """A door for one worker; both ends are non-blocking."""
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    inside.setblocking(False)
    outside.setblocking(False)
    return Door(inside, outside)


class Splitter:
    """Cuts a stream of bytes into frames, wherever the stream was cut before."""

    def __init__(self, head: Struct) -> None:
        self._head = head
        self._rest = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> Sequence[tuple[tuple[Any, ...], bytes]]:
        """The frames that are whole now: the head's fields and the body."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return ()  # a body of megabytes comes in many pieces: it is looked at once, when it is whole
            data = bytes(self._rest)
            self._rest.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[tuple[tuple[Any, ...], bytes]]:
        head, size, at = self._head, len(data), 0
        frames = []
        while size - at >= head.size:
            fields = head.unpack_from(data, at)
            start = at + head.size
            end = start + fields[0]
            if end > size:
                break
            frames.append((fields, data[start:end]))
            at = end
        if at < size:
            self._rest += data[at:] if at else data
            self._wanted = head.size if size - at < head.size else head.size + head.unpack_from(data, at)[0]
        return frames
