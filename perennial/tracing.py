"""Sampled traces in Sentry: what one request led to, step by step in several processes, under one id.

A step is a Sentry transaction. It hands on a header of three ids (the form of `sentry-trace`), by which the next step continues
the trace wherever it runs. Whether a request is traced is drawn once, where it comes in; a step without a header is not sent.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perennial.error_reporting import Step, start_step

_HEADER = re.compile("([0-9a-f]{32})-([0-9a-f]{16})-1")


class TraceStep:
    """A step that is under way; without a transaction one that is not sent."""

    def __init__(self, transaction: Step | None = None) -> None:
        self._transaction = transaction

    @property
    def header(self) -> str:
        """What the next step continues; empty where this one is not sent."""
        return self._transaction.to_traceparent() if self._transaction else ""

    def answered(self, status: int) -> None:
        """The HTTP status of the response."""
        if self._transaction:
            self._transaction.set_http_status(status)


@contextmanager
def begin_trace(name: str, rate: float, draw: Callable[[], float]) -> Iterator[TraceStep]:
    """The first step of a trace, sent if a number that is drawn from [0, 1) is below the rate."""
    if rate <= 0 or draw() >= rate:
        yield TraceStep()
        return
    with start_step(name, "http.server") as transaction:
        yield TraceStep(transaction)


@contextmanager
def continue_trace(header: str, name: str, op: str) -> Iterator[TraceStep]:
    """The step after the one that handed on the header; not sent where it handed on none, or something else."""
    if (ids := _HEADER.fullmatch(header)) is None:
        yield TraceStep()
        return
    with start_step(name, op, (ids[1], ids[2])) as transaction:
        yield TraceStep(transaction)
