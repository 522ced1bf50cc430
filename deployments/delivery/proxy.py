"""nginx in front of the replicas: each gets its weight of the requests, and one that is left out gets none.

A request that a replica fails (connection, time-out, 500, 502) is put to the other one: predictions and labels are named by ids,
so a request that comes twice counts once. A change of weights is read without losing a connection.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import httpx

from perennial.errors import StackError

CONFIG, PID = "nginx.conf", "nginx.pid"
RELOAD_TIMEOUT = timedelta(seconds=10)  # for nginx to read new weights
WEIGHTS = "/-/weights"  # where the proxy says by which weights it works


def find_nginx() -> str | None:
    """The program, also where only root has it on the search path."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]))


def command(directory: Path) -> tuple[str, ...]:
    """What runs it in the foreground."""
    return (str(find_nginx()), "-e", "stderr", "-p", str(directory), "-c", str(directory / CONFIG))


def write_config(directory: Path, port: int, weights: Mapping[int, int]) -> None:
    """The configuration by which replicas, by their port, get requests."""
    (directory / "tmp").mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(_config(port, weights), encoding="utf-8")


def set_weights(directory: Path, port: int, weights: Mapping[int, int]) -> None:
    """Write the weights and wait until new requests go by them; raises StackError."""
    write_config(directory, port, weights)
    os.kill(int((directory / PID).read_text()), signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_TIMEOUT.total_seconds()
    while _weights_at(port) != _written(weights):
        if time.monotonic() > deadline:
            raise StackError(f"nginx at port {port} does not take its configuration: see {directory}/logs/proxy.log")
        time.sleep(0.05)


def _weights_at(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{WEIGHTS}", timeout=5).text
    except httpx.HTTPError:
        return ""


def _written(weights: Mapping[int, int]) -> str:
    return " ".join(f"{port}:{weight}" for port, weight in weights.items())


def _config(port: int, weights: Mapping[int, int]) -> str:
    servers = "\n".join(f"        server 127.0.0.1:{one} weight={weight};" for one, weight in weights.items() if weight)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"    {kind}_temp_path tmp/{kind};" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""  # or the workers could not write where only root may
    return f"""{user}daemon off;
pid {PID};
events {{}}
http {{
    access_log off;
    client_max_body_size 16m;
{temporary}
    upstream replicas {{
{servers}
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location = {WEIGHTS} {{
            return 200 "{_written(weights)}";
        }}
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_read_timeout 35s;
            proxy_next_upstream error timeout http_500 http_502 non_idempotent;
        }}
    }}
}}
"""
