"""The LitAPI: LitServe's four steps, each handed to the worker's parts."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import orjson
from fastapi import HTTPException
from litserve import LitAPI

from perennial.errors import PerennialError
from perennial.settings import Settings
from perennial.spec import ModelSpec
from perennial.triage import report
from service.desk import Ask, Desk
from service.refusal import body_of, internal, is_ours, status_of

if TYPE_CHECKING:
    from service.inference import Operation, Work
    from service.worker import Worker

logger = logging.getLogger(__name__)

STATUS = "status"
"""The operation by which /ready asks a worker how it is."""


class PerennialAPI(LitAPI):  # type: ignore[misc]  # litserve ships no types
    """Travels to each inference worker by pickle, so it holds nothing but settings until `setup`."""

    def __init__(self, settings: Settings, spec: ModelSpec, base: Path, store_url: str) -> None:
        super().__init__(spec=Desk(settings.timeout))
        self._parts = (settings, spec, base, store_url)
        self._worker: Worker | None = None

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes the device
        """Start this worker; it comes up without a champion too."""
        from service.worker import start_worker  # polars and LightGBM are for workers only

        self._worker = start_worker(*self._parts)

    def decode_request(self, request: Ask) -> "Work | None":
        """Bytes to checked rows, with the version that will answer them."""
        with _refusing():
            if request.operation == STATUS:
                return None
            return self._live.inference.read(cast("Operation", request.operation), request.body, datetime.now(UTC))

    def predict(self, x: "Work | None") -> bytes:
        """Checked rows to the answer, logged."""
        with _refusing():
            return self._status() if x is None else self._live.inference.answer(x, datetime.now(UTC))

    def encode_response(self, output: bytes) -> bytes:
        """The answer is bytes already."""
        return output

    @property
    def _live(self) -> "Worker":
        assert self._worker is not None, "LitServe calls setup first"
        return self._worker

    def _status(self) -> bytes:
        live, log = self._live.state()
        version = live.version if live else None
        return orjson.dumps({"version": version, "log_waiting": log.waiting, "store_reached": log.reached})


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors in the form that LitServe carries back to the HTTP process."""
    try:
        yield
    except PerennialError as error:
        if is_ours(error):
            logger.exception("a request failed in the worker")
            report(error, group=("service", "worker"))
        raise HTTPException(status_of(error), body_of(error)) from error
    except Exception as error:
        # The outermost place of the worker that still knows what failed; an HTTPException is not logged by LitServe.
        logger.exception("a request failed in the worker")
        report(error, group=("service", "worker"))
        raise HTTPException(500, internal()) from error
