"""A proxy that ends TLS, as there is in front of a server that speaks none."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.support.certificates import KEY

CHUNK = 65_536


@contextmanager
def tls_proxy(certificate: Path, port: int) -> Iterator[int]:
    """Pass what comes over TLS on to a port of this machine, and back; yields the proxy's own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / KEY)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            encrypted = partial(context.wrap_socket, self.request, server_side=True)
            with suppress(OSError), encrypted() as client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_copy, args=(server, client))
                back.start()
                _copy(client, server)
                back.join()

    with _Server(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, name="tls-proxy")
        thread.start()
        try:
            yield int(proxy.server_address[1])
        finally:
            proxy.shutdown()
            thread.join()


class _Server(ThreadingTCPServer):
    daemon_threads = True


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Everything that comes, until it ends; then the other side hears of the end."""
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
