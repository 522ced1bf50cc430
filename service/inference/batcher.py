"""The request batcher: what a worker's event loop has read in one turn is answered together at the end of that turn.

Small requests are answered in the event loop: a prediction takes microseconds, a hand-over to a thread a hundred. Large
ones, explanations, and all requests while the prediction log has no room go to one thread beside the loop, one after
another, so that probes and small requests do not wait for them.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from service.errors import JsonResponse
from service.inference.predictor import InferenceRequest

SMALL = 16_384  # bytes of a body that is answered in the event loop: some fifty rows, in less than a millisecond
MOST = 32  # requests answered in one go: enough to share what they share, few enough that the first does not wait for the last

HandleBatch = Callable[[Sequence[InferenceRequest]], Sequence[JsonResponse]]


class RequestBatcher:
    """One per worker; everything but `handle_batch` of large requests runs in the event loop."""

    def __init__(self, handle_batch: HandleBatch, may_wait: Callable[[], bool]) -> None:
        self._handle_batch = handle_batch
        self._may_wait = may_wait
        self._waiting: list[tuple[InferenceRequest, asyncio.Future[JsonResponse]]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-requests")

    async def submit(self, request: InferenceRequest) -> JsonResponse:
        """The response to one request; a request that is cancelled while it waits for the thread is not answered at all."""
        loop = asyncio.get_running_loop()
        if len(request.body) > SMALL or request.operation == "explain" or self._may_wait():
            (response,) = await loop.run_in_executor(self._thread, self._handle_batch, (request,))
            return response
        future: asyncio.Future[JsonResponse] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((request, future))
        return await future

    def close(self) -> None:
        """Answer nothing more; what the thread has begun is finished."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            some = waiting[start : start + MOST]
            responses = self._handle_batch([request for request, _ in some])
            for (_, future), response in zip(some, responses, strict=True):
                if not future.done():
                    future.set_result(response)
