"""What a worker has in flight: places of requests and bytes of bodies, for all models together and for each.

Used by the event loop of one worker. A request holds a ticket from its first line to its answer.
"""

from service.errors import ServiceError, unavailable

MAX_BYTES = 256 * 1024 * 1024  # bytes of all bodies of a worker: sixteen of the largest that the default settings allow


class InFlight:
    """Requests and bytes of bodies that a worker has in flight, and their limits."""

    def __init__(self, max_requests: int) -> None:
        self.max_requests = max_requests
        self.requests = self.bytes = 0

    @property
    def is_full(self) -> bool:
        return self.requests > self.max_requests

    @property
    def is_heavy(self) -> bool:
        """Whether more bytes are in memory than may be."""
        return self.bytes > MAX_BYTES

    def admit(self) -> "RequestTicket":
        """A request begins; its ticket must be released."""
        self.requests += 1
        return RequestTicket(self)

    def reserve(self, size: int) -> None:
        self.bytes += size

    def release(self, size: int) -> None:
        """A request with a body of `size` bytes has ended."""
        self.requests -= 1
        self.bytes -= size

    def busy(self) -> ServiceError:
        """More is in flight than one worker may take in."""
        advice = "try again, or raise PERENNIAL_WORKERS or PERENNIAL_MAX_IN_FLIGHT"
        return unavailable("busy", f"{self.requests} requests are in flight; {advice}")


class ModelInFlight(InFlight):
    """One model's part of what is in flight, bounded by a dynamic threshold: it may have as much as is free.

    So one model that is flooded leaves half to the others, two leave a third; and the first request of a model finds a
    place as long as there is one.
    """

    def __init__(self, model: str, whole: InFlight) -> None:
        super().__init__(whole.max_requests)
        self._model, self._whole = model, whole

    @property
    def is_full(self) -> bool:
        free = self.max_requests - (self._whole.requests - 1)  # before this request
        return self._whole.is_full or self.requests > max(1, free)

    @property
    def is_heavy(self) -> bool:
        return self.bytes > MAX_BYTES - self._whole.bytes

    def admit(self) -> "RequestTicket":
        self._whole.requests += 1
        return super().admit()

    def reserve(self, size: int) -> None:
        super().reserve(size)
        self._whole.reserve(size)

    def release(self, size: int) -> None:
        super().release(size)
        self._whole.release(size)

    def busy(self) -> ServiceError:
        advice = "the other models keep their share; try again, or raise PERENNIAL_WORKERS or PERENNIAL_MAX_IN_FLIGHT"
        return unavailable("busy", f"{self.requests} requests to {self._model!r} are in flight; {advice}")


class RequestTicket:
    """One request's share of what is in flight."""

    __slots__ = ("_bytes", "_in_flight")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._bytes = 0

    def reserve(self, size: int) -> None:
        """More of the body is in memory; raises ServiceError (503) beyond the bound of all bodies, one alone excepted."""
        self._bytes += size
        self._in_flight.reserve(size)
        if self._in_flight.is_heavy and self._in_flight.bytes > self._bytes:
            raise self._in_flight.busy()

    def release(self) -> None:
        self._in_flight.release(self._bytes)
