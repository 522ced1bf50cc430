"""A TCP connection between a client and a server on loopback that a test cuts: within a request, or before its answer."""

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 16_384


class CuttingProxy:
    """Passes bytes on both ways until it is told to cut.

    `cut_after` bytes from a client reset its connection, each time; `drop_answers` is how many answers are not passed on: their
    connections are reset instead. `cuts` counts both.
    """

    def __init__(self, server: int) -> None:
        self._server, self._socket = server, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.cut_after: int | None = None
        self.drop_answers, self.cuts = 0, 0
        self._lock, self._thread = threading.Lock(), threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def heal(self) -> None:
        """Cut no more."""
        self.cut_after, self.drop_answers, self.cuts = None, 0, 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            for pass_on in (self._ask, self._answer):
                threading.Thread(target=pass_on, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := client.recv(CHUNK):
                passed += len(data)
                if self.cut_after is not None and passed > self.cut_after:
                    self._cut(client, server)
                    return
                server.sendall(data)
        _close(server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                with self._lock:
                    drop = self.drop_answers > 0
                    self.drop_answers -= drop
                if drop:
                    self._cut(client, server)
                    return
                client.sendall(data)
        _close(client)

    def _cut(self, *both: socket.socket) -> None:
        self.cuts += 1
        for one in both:
            _close(one)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
