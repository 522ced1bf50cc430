"""A real local receiver of Sentry envelopes: what a test sees is what would have left the machine."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import wait_until

Event = dict[str, Any]


class SentryReceiver(ThreadingHTTPServer):
    """Listens on loopback and keeps every envelope item, as (type, payload)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.items: list[tuple[str, Any]] = []
        self.bodies: list[str] = []
        """Every envelope as text, to look for what must not be there."""

    @property
    def dsn(self) -> str:
        """The DSN to put into SENTRY_DSN."""
        return f"http://0123456789abcdef@127.0.0.1:{self.server_port}/1"

    def events(self) -> list[Event]:
        """The error events so far, in order of arrival."""
        return [payload for kind, payload in self.items if kind == "event"]

    def wait_for(self, count: int, timeout: float = 20.0) -> list[Event]:
        """Wait until `count` events are here and return all."""
        wait_until(lambda: len(self.events()) >= count, timeout, f"{count} Sentry event(s); there are {len(self.events())}")
        return self.events()

    def clear(self) -> None:
        """Forget everything received."""
        self.items.clear()
        self.bodies.clear()


@contextmanager
def sentry_receiver() -> Iterator[SentryReceiver]:
    """Run a receiver until the block is left."""
    receiver = SentryReceiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05}, name="sentry-receiver")
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def forget_sentry() -> None:
    """Make this process's SDK as if it had never been initialised."""
    import sentry_sdk

    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().clear()
    sentry_sdk.get_global_scope().set_client(None)
    sentry_sdk.get_isolation_scope().clear()
    sentry_sdk.get_current_scope().clear()


class _Handler(BaseHTTPRequestHandler):
    server: SentryReceiver
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        body = self._body()
        self.server.bodies.append(body.decode(errors="replace"))
        self.server.items.extend(envelope_items(body))
        answer = b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """A test's output is for the test."""


def envelope_items(body: bytes) -> Iterator[tuple[str, Any]]:
    """Split an envelope into (type, payload): a header line, then for each item a header line and its payload."""
    rest = body.partition(b"\n")[2]
    while rest.strip():
        line, _, rest = rest.lstrip(b"\n").partition(b"\n")
        header = json.loads(line)
        size = header.get("length", len(rest.partition(b"\n")[0]))
        payload, rest = rest[:size], rest[size:]
        yield header["type"], json.loads(payload) if payload[:1] in (b"{", b"[") else payload
