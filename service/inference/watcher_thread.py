"""The watcher thread: one per worker looks at the aliases of all its models, loads what is asked for, and unloads.

Models are loaded one after another: at the start where they are few, else each at its first request, which waits for it (some
hundred milliseconds). Beyond `most_loaded` models in memory the one that was asked longest ago is unloaded; its next
request loads it again. A look costs two `stat` calls where nothing has changed on a local registry.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta

from service.inference.served_model import ServedModel

FEW = 8  # models that are loaded before the worker answers; where there are more, each is loaded by its first request
STOP_TIMEOUT = timedelta(seconds=5)  # how long the thread is waited for when the worker ends

logger = logging.getLogger(__name__)


class WatcherThread(threading.Thread):
    """`load` may be called by any thread; everything else that changes a watcher happens in this one."""

    def __init__(self, models: Sequence[ServedModel], interval: timedelta, most_loaded: int) -> None:
        super().__init__(name="model-watcher", daemon=True)
        self._models, self._interval, self._most_loaded = models, interval.total_seconds(), most_loaded
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), False
        self._asked: dict[str, Future[None]] = {}

    def start(self) -> None:
        """Look at every model once, load them where they are few, then go on in the thread."""
        is_eager = len(self._models) <= min(FEW, self._most_loaded)
        for model in self._models:
            if not is_eager:
                model.watcher.unload()
            model.watcher.look()
        super().start()

    def load(self, model: ServedModel) -> Future[None]:
        """Ask for a model; the future is done once it is in memory or has been refused. Requests for one model share it."""
        with self._lock:
            future = self._asked.setdefault(model.name, Future())
        self._wake.set()
        return future

    def stop(self) -> None:
        """Stop looking; what is in memory stays."""
        self._stopped = True
        self._wake.set()
        if self.is_alive():
            self.join(STOP_TIMEOUT.total_seconds())

    def run(self) -> None:
        while not self._stopped:
            self._wake.wait(self._interval)
            self._wake.clear()
            self._load_asked()
            for model in self._models:
                model.watcher.look()
                self._load_asked()  # which nobody who waits for it should wait for the others' versions

    def _load_asked(self) -> None:
        while self._asked and not self._stopped:
            name = next(iter(self._asked))
            model = next(one for one in self._models if one.name == name)
            self._make_room()
            model.watcher.load()
            with self._lock:
                future = self._asked.pop(name)
            future.set_result(None)

    def _make_room(self) -> None:
        """Unload what was asked longest ago, so that one more may be loaded."""
        loaded = sorted((one for one in self._models if one.watcher.is_wanted), key=lambda one: one.predictor.used_at)
        for model in loaded[: max(0, len(loaded) - self._most_loaded + 1)]:
            logger.info("%s is unloaded: %d models are in memory, the most there may be", model.name, len(loaded))
            model.watcher.unload()
