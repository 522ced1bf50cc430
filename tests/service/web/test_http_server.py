"""Heads that come slowly or not at all are given up, and a server that ends closes nothing under a request; real sockets."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop

import service.web.http_server
from service.web.http_server import DrainingServer, HeaderLimitProtocol
from tests.support.processes import free_port

HEAD = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
Pieces = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def server_at(port: int, lame_duck: float = 0.0) -> DrainingServer:
    config = uvicorn.Config(app, port=port, http=HeaderLimitProtocol, lifespan="off", log_config=None, ws="none")
    return DrainingServer(config, threading.Event(), lame_duck)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    server = server_at(port := free_port())
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


def told(pieces: Pieces) -> bytes:
    """What a connection is told until the server closes it."""

    async def connect() -> bytes:
        async with asyncio.timeout(30), served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await pieces(reader, writer)
            finally:
                writer.close()

    return asyncio.run(connect())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.web.http_server, "HEAD_TIMEOUT", timedelta(seconds=0.3))


def test_who_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    assert told(silent) == b""


@pytest.mark.parametrize("before", [b"", HEAD], ids=["first head", "later head"])
def test_who_does_not_finish_a_head_is_given_up(before: bytes) -> None:
    async def dribbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(before)
        answer = await reader.readuntil(b"ok") if before else b""
        writer.write(HEAD[:-5])
        return answer + await reader.read()

    answer = told(dribbling)
    assert answer.count(b"200 OK") == (1 if before else 0)


def test_a_head_in_pieces_is_answered_and_the_connection_kept() -> None:
    async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        answer = b""
        for _ in range(3):
            for piece in (HEAD[:9], HEAD[9:-1], HEAD[-1:]):
                writer.write(piece)
                await writer.drain()
            answer += await reader.readuntil(b"ok")
        return answer

    assert told(in_pieces).count(b"200 OK") == 3


STILL = 1.5  # seconds in which the event loop stands still
LAME_DUCK = 1.2


def asked(port: int, ended: threading.Event) -> list[httpx.Response]:
    """Ask once, again on the same connection while the event loop stands still, and then until the connection is closed."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        answers = [client.get("/")]
        ended.wait()
        time.sleep(STILL / 2)
        while answers[-1].headers.get("connection") != "close":
            answers.append(client.get("/"))
        return answers


def test_what_came_while_the_event_loop_stood_still_is_answered_before_the_end() -> None:
    """A machine with too much to do, or one that was paused: the lame duck's time has passed, but nobody was answered in it."""

    async def stall(server: DrainingServer, port: int) -> list[httpx.Response]:
        serving, ended = asyncio.create_task(server.serve()), threading.Event()
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0)
            asking = asyncio.create_task(asyncio.to_thread(asked, port, ended))
            while not server.server_state.total_requests:
                await asyncio.sleep(0.01)
            server.handle_exit(signal.SIGTERM, None)
            ended.set()
            time.sleep(STILL)
            answers = await asking
            await serving
        return answers

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn sends itself at its end what it was ended by
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the service's: timers go first
            answers = runner.run(stall(server_at(port := free_port(), LAME_DUCK), port))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(answers) > 1
    assert {answer.status_code for answer in answers} == {200}
