"""Admission: a layer of ASGI around the whole application that every request passes first.

It is the one owner of a request's place (`InFlight`), of its time and of its count in the metrics, and asks for the API
key. What it refuses reaches nothing inside. One sweep of the requests in flight keeps every timeout: a request that takes
too long is cancelled and answered with 504.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from perennial.settings import Settings
from service.errors import ServiceError, busy, error_body, error_headers, timed_out
from service.metrics.http_metrics import HttpMetrics
from service.web.auth import ApiKeyRing
from service.web.in_flight import InFlight

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBES = frozenset({"/health", "/ready"})
"""Never refused here: a probe has no key, and must be answered when there is too much work."""

METRICS = frozenset({"/metrics"})
DOCS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})

MEASURED = frozenset({"/predict", "/explain", "/feedback", "/model", *PROBES, *METRICS})
"""Routes with counters of their own; any other address counts as `other`, or a scanner would fill the memory."""

HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
"""On every response: no client guesses its type, no cache keeps it."""

SWEEP_INTERVAL = timedelta(seconds=0.25)
"""Between two looks at what takes too long, while anything is in flight."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that went away before it was answered; it is only counted."""


class AccessPolicy:
    """Who may do what; the same for the life of a process, but for the keys."""

    def __init__(self, settings: Settings) -> None:
        pages = ((METRICS, settings.metrics_access), (DOCS, settings.docs_access))
        self._closed = frozenset[str]().union(*(page for page, access in pages if access == "closed"))
        self._public = PROBES.union(*(page for page, access in pages if access == "open"))
        self._keys = ApiKeyRing(settings)

    def refusal(self, scope: "Scope", in_flight: InFlight) -> ServiceError | None:
        """Why this request is not let in, if so."""
        path = scope["path"]
        if path in PROBES:
            return None
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path not in self._public and self._keys.required and not self._keys.admits(sent_key(headers)):
            return unauthorized()
        if path in self._closed:
            return ServiceError(HTTPStatus.NOT_FOUND, "not_found", "Not Found")
        if b"origin" in headers and scope["method"] not in ("GET", "HEAD") and _is_cross_origin(headers):
            return ServiceError(HTTPStatus.FORBIDDEN, "cross_origin", "pages of other sites may not send requests here")
        return busy(in_flight.requests) if in_flight.is_full and path not in METRICS else None


class AdmissionMiddleware:
    """The outermost layer of a worker's application."""

    def __init__(
        self, app: "ASGIApp", policy: AccessPolicy, in_flight: InFlight, metrics: HttpMetrics, timeout: timedelta
    ) -> None:
        self._app = app
        self._policy = policy
        self._in_flight = in_flight
        self._metrics = metrics
        self._timeout = timeout.total_seconds()
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, observed = time.perf_counter(), CLIENT_CLOSED_REQUEST, False

        def observe() -> None:
            route = scope["path"] if scope["path"] in MEASURED else "other"
            self._metrics.request_observed(route, status, time.perf_counter() - started)

        async def send_observed(message: "Message") -> None:
            nonlocal status, observed
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not observed and not message.get("more_body"):
                observed = True
                observe()  # before the client can have the response, so that its own count is never ahead
            await send(message)

        ticket = self._in_flight.admit()
        scope.setdefault("state", {})["ticket"] = ticket
        self._metrics.in_flight_changed(self._in_flight.requests)
        try:
            refused = self._policy.refusal(scope, self._in_flight)
            await (self._in_time(scope, receive, send_observed) if refused is None else send_error(refused, send_observed))
        finally:
            ticket.release()
            self._metrics.in_flight_changed(self._in_flight.requests)
            if not observed:
                observe()

    async def _in_time(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let a request in, and cut it off when even its body does not arrive in time."""
        task = asyncio.current_task()
        assert task is not None, "ASGI servers run a request in a task"
        self._deadlines[task] = time.monotonic() + self._timeout
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_INTERVAL.total_seconds(), self._sweep)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            await send_error(timed_out(self._timeout), send)
        finally:
            del self._deadlines[task]
            self._late.discard(task)

    def _sweep(self) -> None:
        now = time.monotonic()
        for task in [task for task, deadline in self._deadlines.items() if deadline <= now and task not in self._late]:
            self._late.add(task)
            task.cancel()
        again = asyncio.get_running_loop().call_later
        self._sweeper = again(SWEEP_INTERVAL.total_seconds(), self._sweep) if self._deadlines else None


def sent_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer` or `X-API-Key`; empty without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def unauthorized() -> ServiceError:
    """No key, or none that is known."""
    message = "no known API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    return ServiceError(HTTPStatus.UNAUTHORIZED, "unauthorized", message)


async def send_error(error: ServiceError, send: "Send") -> None:
    """Answer with an error."""
    body, status = error_body(error), int(error.status)
    named = {"content-type": "application/json", "content-length": str(len(body)), **error_headers(status)}
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_cross_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another site; there is no CORS that would allow it.

    Without this a page could post to a service on loopback that asks for no key: a body without a type needs no leave.
    """
    return headers[b"origin"].partition(b"://")[2] != headers.get(b"host")
