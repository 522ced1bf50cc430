"""The desk: carries a request's bytes from an HTTP process to an inference worker, and the answer back.

A `LitSpec`, LitServe's own extension point for endpoints of one's own: both /predict and /explain reach the same
workers, so the model is in memory once per worker.
"""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import HTTPException
from litserve.specs.base import LitSpec
from litserve.utils import LitAPIStatus, ResponseBufferItem

from service.refusal import internal, timed_out, unavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a worker is asked."""

    operation: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answered: an HTTP status and a JSON body."""

    status: int
    body: bytes


class Desk(LitSpec):  # type: ignore[misc]  # litserve ships no types
    """One per HTTP process; LitServe connects it to the workers' queues."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.api_path = "/predict"
        self._timeout = timeout

    async def ask(self, ask: Ask, timeout: float | None = None) -> Reply:
        """Ask any worker; raises Refused (504) when none answers in time, whatever has become of it."""
        uid, patience = uuid.uuid4().hex, timeout or self._timeout
        item = ResponseBufferItem(asyncio.Event())
        self.response_buffer[uid] = item
        try:
            self._put((self.response_queue_id, uid, time.monotonic(), ask))
            await asyncio.wait_for(item.event.wait(), patience)
        except TimeoutError:
            raise timed_out(patience) from None
        finally:
            self.response_buffer.pop(uid, None)
        return _reply(item)

    def _put(self, message: tuple[int, str, float, Ask]) -> None:
        try:
            self.request_queue.put(message)
        except (OSError, EOFError):
            raise unavailable("restarting", "the service is being started again; try again in a few seconds") from None


def _reply(item: ResponseBufferItem) -> Reply:
    answer, status = item.response
    if status == LitAPIStatus.OK:
        return Reply(int(HTTPStatus.OK), answer)
    if isinstance(answer, HTTPException):
        return Reply(answer.status_code, _body(answer))
    return Reply(int(HTTPStatus.INTERNAL_SERVER_ERROR), internal())


def _body(error: HTTPException) -> bytes:
    """Our own errors carry their body; LitServe's (a request that waited too long) carry a text."""
    if isinstance(error.detail, bytes):
        return error.detail
    return internal()
