"""What one worker has in flight: the one owner of the limits on requests and on the bytes of their bodies."""

from service.errors import busy

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of all bodies of a worker: sixteen of the largest that the default settings allow."""


class InFlight:
    """Counts requests and bytes; used by a worker's event loop."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self.requests = 0
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether more requests are in flight than the settings allow."""
        return self.requests > self._max_requests

    def admit(self) -> "RequestTicket":
        """A request begins; its ticket must be released."""
        self.requests += 1
        return RequestTicket(self)


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
            raise busy(self._in_flight.requests)

    def release(self) -> None:
        """The request has ended."""
        self._in_flight.requests -= 1
        self._in_flight.bytes -= self._bytes
