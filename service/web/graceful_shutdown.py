"""Graceful shutdown: a worker that gets SIGTERM first says that it is not ready, answers on a moment, then takes no more."""

import threading
from types import FrameType

import uvicorn


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a moment in which a load balancer sees /ready say no while requests are still answered."""

    def __init__(self, config: uvicorn.Config, draining: threading.Event, lame_duck: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._lame_duck = lame_duck

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end; a second one changes nothing, the first is on its way."""
        if self._draining.is_set():
            return
        self._draining.set()
        timer = threading.Timer(self._lame_duck, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()
