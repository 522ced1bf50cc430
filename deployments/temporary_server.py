"""A Prefect server for the time of one process, where no stack runs (`python -m deployments.temporary_server DESCRIPTOR`).

Prefect would start one itself, in the terminal's process group: Ctrl-C ended it before the flow run could tell it of its own end,
which was then tried for minutes; and a command that was killed left it behind. This one has a session of its own, and ends when
its input is closed, which is what the end of its parent does, however it ends.
"""

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from deployments.prefect_client import require_api
from deployments.stack.prefect_server import api_url
from deployments.stack.state import state_dir
from deployments.stack.supervisord import log_file
from perennial.errors import PrefectUnreachable

FIX = "run `perennial up SPEC`, or point PREFECT_API_URL at a server that answers"
"""Where no stack runs, and the server of the process does not answer."""

STOP_TIMEOUT = timedelta(seconds=5)
LOOK_AGAIN = timedelta(seconds=0.1)

_AS_PREFECT_STARTS_IT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""Without pages, and without the services that no client waits for."""


@dataclass(frozen=True)
class TemporaryServer:
    """The server's process, where it answers, and where its output goes."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait_ready(self, timeout: timedelta) -> None:
        """Raises PrefectUnreachable, naming the log, unless it answers in time."""
        deadline = time.monotonic() + timeout.total_seconds()
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return require_api(self.url, {})
            except PrefectUnreachable:
                time.sleep(LOOK_AGAIN.total_seconds())
        raise PrefectUnreachable(
            f"the temporary Prefect server did not come up in {timeout.total_seconds():g} s, its log is {self.log}: {FIX}"
        )

    def stop(self) -> None:
        """Close its input, and kill it where it does not end then."""
        assert self.process.stdin is not None, "it was started with one"
        self.process.stdin.close()
        try:
            self.process.wait(STOP_TIMEOUT.total_seconds())
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@cache
def temporary_server(home: Path) -> TemporaryServer:
    """This process's server, started by the first call, with its log below `home` and Prefect's home from the environment."""
    log = log_file(state_dir(home), "temporary-prefect")
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.temporary_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **_AS_PREFECT_STARTS_IT},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        server = TemporaryServer(process, api_url(listener.getsockname()[1]), log)
    atexit.register(server.stop)
    return server


def serve(listener: socket.socket) -> None:
    """Serve until the input is closed."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error"))

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_parent, name="parent-watch", daemon=True).start()
    server.run([listener])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
