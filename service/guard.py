"""The guard: every request passes it first. It counts, bounds and times what is in work, and asks for the API key.

A layer of plain ASGI around the whole app, so that what it lets through pays microseconds, and what it refuses reaches
nothing of ours. Refusals with a reason in the body are `service.refusal`'s; what a body holds is judged later.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from perennial.settings import Settings
from service.keys import KeyRing
from service.refusal import Refused, body_of, busy, headers_of, timed_out

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.tally import HttpMetrics

PROBES = frozenset({"/health", "/ready"})
"""Never refused here: who asks whether a process lives has no key, and must hear it when there is too much work."""

METRICS = frozenset({"/metrics"})
DOCS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})

MEASURED = frozenset({"/predict", "/explain", "/feedback", "/model", *PROBES, *METRICS})
"""Routes with counters of their own; any other address counts as `other`, or a scanner would fill the memory."""

HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
"""On every answer: nobody guesses its type, nobody keeps it."""

SWEEP = 0.25
"""Seconds between two looks at what takes too long, while anything is in work."""

GRACE = 0.5
"""Seconds beyond the timeout before a request is cut off here: a worker that does not answer is told by name before."""

CLOSED_BY_CLIENT = 499
"""What is counted when the client went away before it was answered; nobody receives it."""


class Rules:
    """Who may do what; the same for the life of a process, but for the keys."""

    def __init__(self, settings: Settings) -> None:
        pages = ((METRICS, settings.metrics_access), (DOCS, settings.docs_access))
        self._closed = frozenset[str]().union(*(page for page, access in pages if access == "closed"))
        self._public = PROBES.union(*(page for page, access in pages if access == "open"))
        self._keys = KeyRing(settings)
        self._most = max(1, settings.max_in_flight // settings.api_servers)

    @property
    def ask_for_keys(self) -> bool:
        """Whether a key is asked for at all."""
        return self._keys.asks

    def refusal(self, scope: "Scope", in_flight: int) -> Refused | None:
        """Why this request is not let in, if so."""
        path = scope["path"]
        if path in PROBES:
            return None
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path not in self._public and self._keys.asks and not self._keys.admits(shown_key(headers)):
            return unauthorized()
        if path in self._closed:
            return Refused(HTTPStatus.NOT_FOUND, "not_found", "Not Found")
        if b"origin" in headers and scope["method"] not in ("GET", "HEAD") and _is_foreign(headers):
            return Refused(HTTPStatus.FORBIDDEN, "cross_origin", "pages of other sites may not send requests here")
        return busy(in_flight) if in_flight > self._most and path not in METRICS else None


class Guard:
    """The outermost layer. `metrics` is asked once per request: they are made when the process has started."""

    def __init__(self, app: "ASGIApp", rules: Rules, metrics: "Callable[[], HttpMetrics]", timeout: float) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics
        self._timeout = timeout
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, started, code, counted = self._metrics(), time.perf_counter(), CLOSED_BY_CLIENT, False

        def count() -> None:
            route = scope["path"] if scope["path"] in MEASURED else "other"
            metrics.answered(route, code, time.perf_counter() - started)

        async def counting(message: "Message") -> None:
            nonlocal code, counted
            if message["type"] == "http.response.start":
                code = message["status"]
            elif not counted and not message.get("more_body"):
                counted = True
                count()  # before the client can have it, so that its own count is never ahead
            await send(message)

        metrics.came()
        try:
            refused = self._rules.refusal(scope, metrics.in_flight)
            await (self._in_time(scope, receive, counting) if refused is None else refuse(refused, counting))
        finally:
            metrics.went()
            if not counted:
                count()

    async def _in_time(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let a request in, and cut it off when even the body does not arrive in time."""
        task = asyncio.current_task()
        assert task is not None, "ASGI servers run a request in a task"
        self._deadlines[task] = time.monotonic() + self._timeout + GRACE
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            await refuse(timed_out(self._timeout), send)
        finally:
            del self._deadlines[task]
            self._late.discard(task)

    def _sweep(self) -> None:
        now = time.monotonic()
        for task in [task for task, deadline in self._deadlines.items() if deadline <= now and task not in self._late]:
            self._late.add(task)
            task.cancel()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep) if self._deadlines else None


def shown_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer` or `X-API-Key`; empty without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def unauthorized() -> Refused:
    """No key, or none that is known."""
    message = "no known API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", message)


async def refuse(refused: Refused, send: "Send") -> None:
    """Answer with a refusal."""
    body, status = body_of(refused), int(refused.status)
    named = {"content-type": "application/json", "content-length": str(len(body)), **headers_of(status)}
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another site; there is no CORS that would allow it.

    Without this a page could post to a service on loopback that asks for no key: a body without a type needs no leave.
    """
    return headers[b"origin"].partition(b"://")[2] != headers.get(b"host")
