"""Ending: an HTTP process that is told to end says first that it is not ready, answers on for a moment, then takes no more."""

import threading
from types import FrameType

import uvicorn


class EndingServer(uvicorn.Server):
    """uvicorn's server with a moment in which a load balancer sees /ready say no while requests are still answered."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event, lame_duck: float) -> None:
        super().__init__(config)
        self._ending = ending
        self._lame_duck = lame_duck

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end; a second one changes nothing, the first is on its way."""
        if self._ending.is_set():
            return
        self._ending.set()
        timer = threading.Timer(self._lame_duck, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()
