"""The LitAPI: LitServe's four steps, each handed to the worker's parts, and the turn of the fast path."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from fastapi import HTTPException
from litserve import LitAPI

from perennial.error_reporting import report
from perennial.errors import PerennialError
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.desk import Ask, Reply
from service.refusal import body_of, internal, is_ours, status_of

if TYPE_CHECKING:
    from service.inference import Work
    from service.worker import Worker

logger = logging.getLogger(__name__)


class PerennialAPI(LitAPI):  # type: ignore[misc]  # litserve ships no types
    """Travels to each inference worker by pickle, so it holds nothing but settings until `setup`."""

    def __init__(self, settings: Settings, spec: ModelSpec, base: Path, store_url: str) -> None:
        super().__init__()
        self._parts = (settings, spec, base, store_url)
        self._worker: Worker | None = None

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes the device
        """Start this worker; it comes up without a champion too."""
        from service.worker import start_worker  # polars and the learner's library are for workers only

        self._worker = start_worker(*self._parts)

    def decode_request(self, request: Ask) -> "Work | None":
        """Bytes to checked rows, with the version that will answer them."""
        with _refusing():
            if request.operation == "status":
                return None
            return self._live.inference.read(request, datetime.now(UTC))

    def predict(self, x: "Work | None") -> bytes:
        """Checked rows to the answer, logged."""
        with _refusing():
            if x is None:
                return self._status()
            inference = self._live.inference
            return inference.explain(x) if x.ask.operation == "explain" else inference.predict([x], datetime.now(UTC))[0]

    def encode_response(self, output: bytes) -> bytes:
        """The answer is bytes already."""
        return output

    def take_turn(self, asks: Sequence[Ask]) -> Sequence[Reply]:
        """All that waits at once, on the fast path; one wrong request spoils none of the others. Never raises."""
        now = datetime.now(UTC)
        read = [self._read(ask, now) for ask in asks]
        works = [one for one in read if not isinstance(one, Reply)]
        answers = self._answer(works, now)
        return [one if isinstance(one, Reply) else next(answers) for one in read]

    def _read(self, ask: Ask, now: datetime) -> "Work | Reply":
        try:
            return Reply(200, self._status()) if ask.operation == "status" else self._live.inference.read(ask, now)
        except Exception as error:  # noqa: BLE001 - the outermost place that knows which request failed
            return _refusal(error)

    def _answer(self, works: "Sequence[Work]", now: datetime) -> Iterator[Reply]:
        """Predictions together, because they share an entry of the log; explanations one by one."""
        predicted = iter(self._predict([work for work in works if work.ask.operation == "predict"], now))
        return (next(predicted) if work.ask.operation == "predict" else self._explain(work) for work in works)

    def _predict(self, works: "Sequence[Work]", now: datetime) -> Sequence[Reply]:
        try:
            return [Reply(200, body) for body in self._live.inference.predict(works, now)] if works else ()
        except Exception as error:  # noqa: BLE001
            return [_refusal(error)] * len(works)

    def _explain(self, work: "Work") -> Reply:
        try:
            return Reply(200, self._live.inference.explain(work))
        except Exception as error:  # noqa: BLE001
            return _refusal(error)

    @property
    def _live(self) -> "Worker":
        assert self._worker is not None, "LitServe calls setup first"
        return self._worker

    def _status(self) -> bytes:
        return orjson.dumps(self._live.status())


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors in the form that LitServe carries back to the HTTP process."""
    try:
        yield
    except Exception as error:
        reply = _refusal(error)
        raise HTTPException(reply.status, reply.body) from error


def _refusal(error: Exception) -> Reply:
    """What a client is told of an error; one that is ours is logged and reported here, where it is still known."""
    if isinstance(error, PerennialError) and not is_ours(error):
        return Reply(status_of(error), body_of(error))
    logger.error("a request failed in the worker", exc_info=error)
    report(error, group=("service", "worker"))
    return Reply(status_of(error), body_of(error)) if isinstance(error, PerennialError) else Reply(500, internal())
