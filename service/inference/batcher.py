"""The request batcher: what a worker's event loop has read in one turn is answered together at the end of that turn.

Small requests are answered in the event loop: a prediction takes microseconds, a hand-over to a thread a hundred. Large
ones, explanations, and all requests while a model's prediction log has no room go to one thread beside the loop, one after
another, so that probes and small requests do not wait for them. Models take turns there: many large requests to one of them
delay another's by one.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from service.errors import JsonResponse
from service.inference.predictor import InferenceRequest

SMALL = 16_384  # bytes of a body that is answered in the event loop: some fifty rows, in less than a millisecond
MOST = 32  # requests answered in one go: enough to share what they share, few enough that the first does not wait for the last

HandleBatch = Callable[[Sequence[InferenceRequest]], Sequence[JsonResponse]]


class RequestBatcher:
    """One per worker; everything but `handle_batch` of large requests runs in the event loop."""

    def __init__(self, handle_batch: HandleBatch) -> None:
        self._handle_batch = handle_batch
        self._waiting: list[tuple[InferenceRequest, asyncio.Future[JsonResponse]]] = []
        self._in_turns = FairThread(handle_batch)

    async def submit(self, request: InferenceRequest) -> JsonResponse:
        """The response to one request; a request that is cancelled while it waits for the thread is not answered at all."""
        loop = asyncio.get_running_loop()
        if len(request.body) > SMALL or request.operation == "explain" or request.predictor.may_wait:
            return await self._in_turns.submit(request)
        future: asyncio.Future[JsonResponse] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((request, future))
        return await future

    def close(self) -> None:
        """Answer nothing more; what the thread has begun is finished."""
        self._in_turns.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            some = waiting[start : start + MOST]
            responses = self._handle_batch([request for request, _ in some])
            for (_, future), response in zip(some, responses, strict=True):
                if not future.done():
                    future.set_result(response)


class FairThread:
    """One thread that answers requests one after another, the models in turn (round robin)."""

    def __init__(self, handle_batch: HandleBatch) -> None:
        self._handle_batch = handle_batch
        self._queues: dict[int, deque[tuple[InferenceRequest, Future[JsonResponse]]]] = {}  # by model, the next one first
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-requests")

    async def submit(self, request: InferenceRequest) -> JsonResponse:
        """The response; one that is cancelled before its turn has come is not answered at all."""
        future: Future[JsonResponse] = Future()
        with self._lock:
            self._queues.setdefault(id(request.predictor), deque()).append((request, future))
        self._thread.submit(self._answer_next)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer_next(self) -> None:
        """Called once for each request; which one it answers is decided now."""
        request, future = self._take_next()
        if future.set_running_or_notify_cancel():
            (response,) = self._handle_batch((request,))
            future.set_result(response)

    def _take_next(self) -> tuple[InferenceRequest, Future[JsonResponse]]:
        with self._lock:
            model = next(iter(self._queues))
            queue = self._queues.pop(model)
            taken = queue.popleft()
            if queue:
                self._queues[model] = queue  # at the end: the other models come first
            return taken
