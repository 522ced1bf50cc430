"""uvicorn as a worker uses it: bounded request heads, one write for each turn of the event loop, and two ways to end in steps.

uvicorn with httptools would read a head without end, and writes head and body of an answer separately, each of which uvloop
sends at once: two system calls, two packets and two wake-ups of the client, where one will do.
"""

import asyncio
import threading
import time
from datetime import timedelta
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import ServiceError, error_body
from service.plan import RETIRE_TIMEOUT

MAX_HEAD = 32_768  # bytes of request line and headers: four times what proxies allow by default
MAX_HEADERS = 100  # headers of one request
HEAD_TIMEOUT = timedelta(seconds=20)  # from connecting to the first head's end, and from a later one's first piece to its end
TICK = 0.1  # seconds between two turns of uvicorn's main loop
LAST_TICKS = 2  # before the end, for what was accepted and not read yet
CLOSE = (b"connection", b"close")
STATUS = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class DrainingServer(uvicorn.Server):
    """Says at SIGTERM that it is not ready, answers on for `lame_duck` seconds so that load balancers see it, then ends.

    Those seconds are counted in turns of the event loop: one that stood still meanwhile, on a machine with too much to do, still
    answers what has come. In the last of them no more connections are accepted.

    One that retires, because another process answers at the same socket, accepts no more connections, and ends when there are
    none; what is silent for RETIRE_TIMEOUT is closed at its end.

    Both close each connection with its next answer, so that no request meets a closed connection.
    """

    def __init__(self, config: uvicorn.Config, draining: threading.Event, lame_duck: float) -> None:
        super().__init__(config)
        self._draining, self._ticks_left = draining, max(LAST_TICKS, round(lame_duck / TICK))
        self._signal: tuple[int, FrameType | None] | None = None
        self._is_retiring, self._retired_by = False, 0.0

    def retire(self) -> None:
        """Called by a signal handler; the event loop acts on it within a tenth of a second."""
        self._is_retiring = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; called once in TICK."""
        if self._signal is not None:
            self._drain(*self._signal)
        if self._is_retiring and not self._retired_by:
            self._retired_by = time.monotonic() + RETIRE_TIMEOUT.total_seconds()
            self._close_with_answers()
            self._stop_accepting()
        is_over = self._retired_by and (not self.server_state.connections or time.monotonic() > self._retired_by)
        return bool(is_over) or await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end; a second one changes nothing, the first is on its way."""
        if self._signal is None:
            self._signal = sig, frame
            self._draining.set()

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        """One turn of the lame duck's."""
        self._close_with_answers()
        self._ticks_left -= 1
        if self._ticks_left < LAST_TICKS:
            self._stop_accepting()
        if self._ticks_left <= 0:
            super().handle_exit(sig, frame)

    def _close_with_answers(self) -> None:
        if CLOSE not in self.config.encoded_headers:
            self.config.encoded_headers.append(CLOSE)
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()


class CoalescingTransport:
    """A transport that writes at the end of the turn; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            self._transport.write(data)


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on what comes before the body: in bytes, in headers, and in time while it arrives."""

    _chunk = 0
    _earlier = 0  # bytes of this head in chunks before this one, the one that it began in left out
    _in_head = False
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Give the first head its time."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._clock = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head goes on and on."""
        self._chunk, going_on = len(data), self._in_head
        super().data_received(data)
        if not self._in_head:
            return
        if self._clock is None:  # a later head of this connection, in pieces
            self._clock = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), self.transport.close)
        if going_on:
            self._earlier += self._chunk
            if self._earlier > MAX_HEAD:  # there is no request yet that an app could answer
                lines = [f"HTTP/1.1 {STATUS} {STATUS.phrase}".encode(), *(name + b": " + value for name, value in _HEADERS)]
                self.transport.write(b"\r\n".join([*lines, b"", _BODY]))
                self.transport.close()

    def on_message_begin(self) -> None:
        self._earlier, self._in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head ends; whether it is too large is looked at only where it can be."""
        self._in_head = False
        self._stop_clock()
        is_long = self._earlier + self._chunk > MAX_HEAD
        is_long = is_long and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD
        if is_long or len(self.headers) > MAX_HEADERS:
            self.app = _too_large
        super().on_headers_complete()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


_MESSAGE = f"at most {MAX_HEAD} bytes of request line and headers, and {MAX_HEADERS} headers"
_BODY = error_body(ServiceError(STATUS, "head_too_large", _MESSAGE))
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY)), CLOSE]


async def _too_large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": int(STATUS), "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
