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
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.settings import Settings
from service.errors import HEADERS, JsonResponse, ServiceError, error_response, unavailable
from service.metrics import HttpMetrics
from service.web.auth import ApiKeyRing

JSON = "application/json"

PROBES = frozenset({"/health", "/ready"})  # never refused: a probe has no key, and is answered when there is too much work
METRICS = frozenset({"/metrics"})
DOCS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
# Routes with counters of their own; any other address counts as `other`, or a scanner would fill the memory.
MEASURED = frozenset({"/predict", "/explain", "/feedback", "/model", *PROBES, *METRICS})
SWEEP_INTERVAL = timedelta(seconds=0.25)  # between two looks at what takes too long, while anything is in flight
MAX_BYTES = 256 * 1024 * 1024  # bytes of all bodies of a worker: sixteen of the largest that the default settings allow
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that went away before it was answered; it is only counted


class InFlight:
    """Requests and bytes of bodies that a worker has in flight, and their limits; used by its event loop."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self.requests = self.bytes = 0

    @property
    def is_full(self) -> bool:
        return self.requests > self._max_requests

    def admit(self) -> "RequestTicket":
        """A request begins; its ticket must be released."""
        self.requests += 1
        return RequestTicket(self)

    def busy(self) -> ServiceError:
        """More is in flight than one worker may take in."""
        advice = "try again, or raise PERENNIAL_WORKERS or PERENNIAL_MAX_IN_FLIGHT"
        return unavailable("busy", f"{self.requests} requests are in flight; {advice}")


class RequestTicket:
    """One request's share of what is in flight."""

    __slots__ = ("_bytes", "_in_flight")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._bytes = 0

    def reserve(self, size: int) -> None:
        """More of the body is in memory; raises ServiceError (503) beyond the bound of all bodies, one alone excepted."""
        self._bytes += size
        self._in_flight.bytes += size
        if self._in_flight.bytes > MAX_BYTES and self._in_flight.bytes > self._bytes:
            raise self._in_flight.busy()

    def release(self) -> None:
        self._in_flight.requests -= 1
        self._in_flight.bytes -= self._bytes


class AccessPolicy:
    """Who may do what; the same for the life of a process, but for the keys."""

    def __init__(self, settings: Settings) -> None:
        pages = ((METRICS, settings.metrics_access), (DOCS, settings.docs_access))
        self._closed = frozenset[str]().union(*(page for page, access in pages if access == "closed"))
        self._public = PROBES.union(*(page for page, access in pages if access == "open"))
        self._keys = ApiKeyRing(settings)

    def refusal(self, scope: Scope, in_flight: InFlight) -> ServiceError | None:
        """Why this request is not let in, if so."""
        path = scope["path"]
        if path in PROBES:
            return None
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path not in self._public and self._keys.required and not self._keys.admits(_sent_key(headers)):
            message = "no known API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            return ServiceError(HTTPStatus.UNAUTHORIZED, "unauthorized", message)
        if path in self._closed:
            return ServiceError(HTTPStatus.NOT_FOUND, "not_found", "Not Found")
        if b"origin" in headers and scope["method"] not in ("GET", "HEAD") and _is_cross_origin(headers):
            return ServiceError(HTTPStatus.FORBIDDEN, "cross_origin", "pages of other sites may not send requests here")
        return in_flight.busy() if in_flight.is_full and path not in METRICS else None


class AdmissionMiddleware:
    """The outermost layer of a worker's application."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy, in_flight: InFlight, metrics: HttpMetrics, timeout: timedelta) -> None:
        self._app, self._policy, self._in_flight, self._metrics = app, policy, in_flight, metrics
        self._timeout = timeout.total_seconds()
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observed = _ObservedSend(send, scope["path"], self._metrics)
        ticket = self._in_flight.admit()
        scope.setdefault("state", {})["ticket"] = ticket
        self._metrics.in_flight_changed(self._in_flight.requests)
        try:
            refused = self._policy.refusal(scope, self._in_flight)
            await (self._in_time(scope, receive, observed) if refused is None else send_json(error_response(refused), observed))
        finally:
            ticket.release()
            self._metrics.in_flight_changed(self._in_flight.requests)
            observed.count()

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            message = f"not answered within {self._timeout:g} s; try again, or raise PERENNIAL_TIMEOUT or PERENNIAL_WORKERS"
            await send_json(error_response(ServiceError(HTTPStatus.GATEWAY_TIMEOUT, "timeout", message)), send)
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


class _ObservedSend:
    """ASGI's `send` of one request, which counts it before its client can have the response: no client is ahead of /metrics."""

    __slots__ = ("_counted", "_metrics", "_path", "_send", "_started", "_status")

    def __init__(self, send: Send, path: str, metrics: HttpMetrics) -> None:
        self._send, self._path, self._metrics = send, path, metrics
        self._started = time.perf_counter()
        self._status = CLIENT_CLOSED_REQUEST
        self._counted = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif not message.get("more_body"):
            self.count()
        await self._send(message)

    def count(self) -> None:
        if not self._counted:
            self._counted = True
            route = self._path if self._path in MEASURED else "other"
            self._metrics.request_observed(route, self._status, time.perf_counter() - self._started)


async def send_json(response: JsonResponse, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(response.body))]
    if response.status != HTTPStatus.OK:
        more = HEADERS.get(response.status, {})
        headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _sent_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer` or `X-API-Key`; empty without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _is_cross_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another site; there is no CORS that would allow it.

    Without this a page could post to a service on loopback that asks for no key: a body without a type needs no leave.
    """
    return headers[b"origin"].partition(b"://")[2] != headers.get(b"host")
