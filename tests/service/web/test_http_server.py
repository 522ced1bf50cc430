"""Heads that come slowly or not at all are given up; real sockets, with little patience."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import uvicorn

import service.web.http_server
from service.web.http_server import HeaderLimitProtocol
from tests.support.processes import free_port

HEAD = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
Pieces = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=HeaderLimitProtocol, lifespan="off", log_config=None, ws="none"))
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
