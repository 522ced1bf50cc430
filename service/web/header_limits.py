"""Header limits: a request's head is bounded in bytes, in headers and in time while it arrives.

uvicorn with httptools would read a head without end.
"""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import ServiceError, error_body
from service.web.write_coalescing import CoalescingTransport

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_HEAD = 32_768
"""Bytes of request line and headers: four times what proxies allow by default."""

MAX_HEADERS = 100
"""Headers of one request."""

HEAD_TIMEOUT = timedelta(seconds=20)
"""From connecting to the end of the first head, and from the first piece of a later one to its end."""

STATUS = 431


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on what comes before the body."""

    _chunk = 0
    _earlier = 0
    """Bytes of this head in chunks before this one, the one that it began in left out."""
    _in_head = False
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Give the first head its time."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._clock = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head goes on and on."""
        self._chunk = len(data)
        going_on = self._in_head
        super().data_received(data)
        if not self._in_head:
            return
        if self._clock is None:  # a later head of this connection, in pieces
            self._clock = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), self.transport.close)
        if going_on:
            self._earlier += self._chunk
            if self._earlier > MAX_HEAD:
                self._hang_up()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._earlier, self._in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head ends; whether it is too large is looked at only where it can be."""
        self._in_head = False
        self._stop_clock()
        may_be = self._earlier + self._chunk > MAX_HEAD
        if len(self.headers) > MAX_HEADERS or (may_be and self._size() > MAX_HEAD):
            self.app = _too_large
        super().on_headers_complete()

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _hang_up(self) -> None:
        """Answer in the middle of a head, when there is no request yet that an app could answer."""
        headers = b"".join(name + b": " + value + b"\r\n" for name, value in _HEADERS)
        self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + headers + b"\r\n" + _BODY)
        self.transport.close()


_BODY = error_body(
    ServiceError(
        HTTPStatus(STATUS), "head_too_large", f"at most {MAX_HEAD} bytes of request line and headers, and {MAX_HEADERS} headers"
    )
)
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"connection", b"close"),
]


async def _too_large(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    await send({"type": "http.response.start", "status": STATUS, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
