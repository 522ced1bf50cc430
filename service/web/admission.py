"""Admission: a layer of ASGI around the whole application that every request passes first.

It is the one owner of a request's place (in_flight.py), of its time and of its count in the metrics, and asks for the API
key. What it refuses reaches nothing inside. One sweep of the requests in flight keeps every timeout: a request that takes
too long is cancelled and answered with 504.
"""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.settings import Settings
from service.errors import HEADERS, JsonResponse, ServiceError, error_response
from service.metrics import HttpMetrics, RouteLabels
from service.web.auth import ApiKeyRing
from service.web.quota import CountRows, Quotas
from service.web.routes import DOCS, METRICS, MODELS, PAGES_OF_A_MODEL, PROBES, UI, Route, RouteTable, long_path, ui_of

JSON = "application/json"
GRANT = "grant"  # in the state of a request: what its API key opens, where one was asked for
QUOTA = "quota"  # in the state of a request: what its rows are taken from, where there is a quota

SWEEP_INTERVAL = timedelta(seconds=0.25)  # between two looks at what takes too long, while anything is in flight
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that went away before it was answered; it is only counted


class AccessPolicy:
    """Who may do what; the same for the life of a process, but for the keys."""

    def __init__(self, settings: Settings, names: Sequence[str] = (), count_rows: CountRows = lambda *_: None) -> None:
        docs = DOCS.union(long_path(name, page) for name in names for page in PAGES_OF_A_MODEL)
        pages = ((METRICS, settings.metrics_access), (docs, settings.docs_access))
        self._closed = frozenset[str]().union(*(page for page, access in pages if access == "closed"))
        self._public = PROBES.union(*(page for page, access in pages if access == "open"))
        self._keys, self._quotas = ApiKeyRing(settings, names), Quotas(settings, count=count_rows)
        self._counts = self._keys.required or self._quotas.limited

    def refusal(self, scope: Scope, route: Route) -> ServiceError | None:
        """Why this request is not let in, if so."""
        if route.is_probe:
            return None
        path, in_flight = scope["path"], route.in_flight
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path not in self._public and self._keys.required and (refused := self._unauthorized(headers, scope, route)):
            return refused
        if path in self._closed:
            return ServiceError(HTTPStatus.NOT_FOUND, "not_found", "Not Found")
        if b"origin" in headers and scope["method"] not in ("GET", "HEAD") and _is_cross_origin(headers):
            return ServiceError(HTTPStatus.FORBIDDEN, "cross_origin", "pages of other sites may not send requests here")
        if in_flight.is_full and path not in METRICS:
            return in_flight.busy()
        return self._over_quota(headers, scope) if self._counts and scope["method"] == "POST" else None

    def _over_quota(self, headers: Mapping[bytes, bytes], scope: Scope) -> ServiceError | None:
        """Why the quota of the key lets no request through now, if so; it stays in the scope: rows are taken later."""
        quota = self._quotas.find(_sent_key(headers) if self._keys.required else b"")
        scope.setdefault("state", {})[QUOTA] = quota
        return self._quotas.admit(quota)

    def _unauthorized(self, headers: Mapping[bytes, bytes], scope: Scope, route: Route) -> ServiceError | None:
        """Why the key that was sent does not open this route, if so; what it opens stays in the scope, for `/models`."""
        grant = self._keys.find(_sent_key(headers) or (_password(headers) if _is_ui(scope["path"]) else b""))
        if grant is None:
            message = "no known API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            return ServiceError(HTTPStatus.UNAUTHORIZED, "unauthorized", message)
        scope.setdefault("state", {})[GRANT] = grant
        if not (scope["path"] in (MODELS, UI) or grant.may_ask(route.model)):
            return ServiceError(HTTPStatus.FORBIDDEN, "forbidden", f"this API key is for {grant} only")
        if scope["method"] == "POST" and route.right is not None and not grant.may(route.right):
            rights = " and ".join(sorted(grant.rights or ()))
            return ServiceError(HTTPStatus.FORBIDDEN, "forbidden", f"this API key may {rights} only")
        return None


class AdmissionMiddleware:
    """The outermost layer of a worker's application."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy, routes: RouteTable, metrics: HttpMetrics, timeout: timedelta) -> None:
        self._app, self._policy, self._routes, self._metrics = app, policy, routes, metrics
        self._in_flight = routes.in_flight
        self._timeout = timeout.total_seconds()
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._routes.find(scope["path"])
        observed = _ObservedSend(send, route.labels, self._metrics)
        ticket = route.in_flight.admit()
        scope.setdefault("state", {})["ticket"] = ticket
        self._metrics.in_flight_changed(self._in_flight.requests)
        try:
            refused = self._policy.refusal(scope, route)
            if refused is None:
                await self._in_time(scope, receive, observed)
            else:
                await send_json(error_response(refused), observed, _challenge(scope["path"]))
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

    __slots__ = ("_counted", "_labels", "_metrics", "_send", "_started", "_status")

    def __init__(self, send: Send, labels: RouteLabels, metrics: HttpMetrics) -> None:
        self._send, self._labels, self._metrics = send, labels, metrics
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
            self._metrics.request_observed(self._labels, self._status, time.perf_counter() - self._started)


async def send_json(response: JsonResponse, send: Send, challenge: str | None = None) -> None:
    """Answer in JSON; a refused key is answered with how one is sent, `challenge` if it is given."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(response.body))]
    if response.status != HTTPStatus.OK:
        more = dict(HEADERS.get(response.status, {}))
        more |= {"WWW-Authenticate": challenge} if challenge and response.status == HTTPStatus.UNAUTHORIZED else {}
        more |= {"Retry-After": str(response.retry_after)} if response.retry_after is not None else {}
        headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _sent_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer` or `X-API-Key`; empty without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _password(headers: Mapping[bytes, bytes]) -> bytes:
    """The password of basic authentication, as a browser sends it for pages; empty without one."""
    scheme, _, encoded = headers.get(b"authorization", b"").partition(b" ")
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2] if scheme.lower() == b"basic" else b""
    except ValueError:
        return b""


def _is_ui(path: str) -> bool:
    return path == UI or bool(ui_of(path))


def _challenge(path: str) -> str | None:
    return 'Basic realm="perennial: any name, and an API key as the password", charset="UTF-8"' if _is_ui(path) else None


def _is_cross_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another site; there is no CORS that would allow it.

    Without this a page could post to a service on loopback that asks for no key: a body without a type needs no leave.
    """
    return headers[b"origin"].partition(b"://")[2] != headers.get(b"host")
