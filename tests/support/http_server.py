"""A small HTTP server in this process, for tests of clients: the handler says what it answers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a line per request on stderr."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        return None


class QuietFiles(QuietHandler, SimpleHTTPRequestHandler):
    """Answers with the files of a directory."""


def file_server(directory: Path) -> AbstractContextManager[str]:
    """Serve the files of a directory until the block is left; yields the URL."""
    return http_server(partial(QuietFiles, directory=str(directory)))


@contextmanager
def http_server(handler: Callable[..., QuietHandler]) -> Iterator[str]:
    """Serve on a free port of loopback until the block is left; yields the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
