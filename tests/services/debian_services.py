"""Debian's daemons, each with state of its own in a directory and on a loopback port, ended with the test."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from tests.support.certificates import CERTIFICATE, KEY
from tests.support.debian import require_program
from tests.support.processes import ROOT, run_to_end, running, wait_ready
from tests.support.store import answers

PACKAGE_OF = {"postgres": "postgresql"} | {name: name for name in ("redis-server", "nginx", "prometheus")}
PROMETHEUS = ROOT / "deployments" / "compose" / "prometheus.yml"
RULES = ROOT / "deployments" / "monitoring" / "rules.yml"
SITE = ROOT / "deployments" / "nginx" / "perennial.conf"
START_TIMEOUT = 60.0
KEY_FILES = {"cert": CERTIFICATE, "key": KEY, "ca-cert": CERTIFICATE}


@contextmanager
def postgres(port: int, password: str, log: Path) -> Iterator[None]:
    """A cluster with user and database `prefect`. The server refuses to be root, whose part its own user takes then."""
    with tempfile.TemporaryDirectory(prefix="perennial-postgres-") as directory:  # pytest's directories let nobody else in
        secret, data, user = Path(directory, "password"), Path(directory, "data"), _postgres_user()
        secret.write_text(password)
        if user:
            shutil.chown(directory, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
        made = [*user, require_program("initdb"), "--pgdata", data, "--username", "prefect", "--pwfile", secret]
        run_to_end([*made, "--auth", "scram-sha-256", "--encoding", "UTF8"], Path(directory), os.environ, START_TIMEOUT)
        where = ("--host", "127.0.0.1", "--port", str(port), "--username", "prefect")
        server = [*user, require_program("postgres"), "-D", data, "-p", str(port), "-c", "unix_socket_directories="]
        with running(server, log, cwd=Path(directory)) as process:
            ready = [str(require_program("pg_isready")), *where]
            wait_ready(process, lambda: not subprocess.run(ready, capture_output=True).returncode, log, START_TIMEOUT, "postgres")
            create = [require_program("createdb"), *where, "prefect"]
            run_to_end(create, Path(directory), {**os.environ, "PGPASSWORD": password}, START_TIMEOUT)
            yield


def _postgres_user() -> tuple[str, ...]:
    return ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups") if os.geteuid() == 0 else ()


@contextmanager
def redis_server(ports: tuple[int, int], options: Sequence[str], url: str, directory: Path, log: Path) -> Iterator[None]:
    """A Redis (or Valkey) with these options, in which the user of a URL may enter; `ports` are without TLS and with it."""
    tls = [word for name in ("cert", "key", "ca-cert") for word in (f"--tls-{name}-file", directory / KEY_FILES[name])]
    encrypted = ["--tls-port", str(ports[1]), *tls, "--tls-auth-clients", "no"]
    program = require_program("redis-server", "valkey-server")
    command = [program, "--bind", "127.0.0.1", "--port", str(ports[0]), *encrypted, "--dir", directory]
    with running([*command, *options], log) as process:
        wait_ready(process, lambda: answers(url), log, START_TIMEOUT, "redis")
        yield


@contextmanager
def nginx(ports: Mapping[int, int], directory: Path, log: Path) -> Iterator[None]:
    """nginx with the site that we ship, whose ports are replaced by these; `nginx -t` has nothing against it."""
    site = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[int(found[1])]}", SITE.read_text())
    write_main(directory, site)
    command = [str(require_program("nginx")), "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
    run_to_end([*command, "-t"], directory, os.environ, START_TIMEOUT)
    with running(command, log) as process:
        listened = [int(port) for port in re.findall(r"listen 127\.0\.0\.1:(\d+);", site)]
        wait_ready(process, lambda: all(map(_listens, listened)), log, START_TIMEOUT, "nginx")
        yield


@contextmanager
def prometheus(port: int, targets: Sequence[str], directory: Path, log: Path) -> Iterator[None]:
    """Prometheus with the rules and the configuration that we ship: it scrapes these targets, oftener, and tells nobody."""
    config = yaml.safe_load(PROMETHEUS.read_text())
    config["global"] |= {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
    del config["alerting"]
    file = directory / PROMETHEUS.name
    file.write_text(yaml.safe_dump(config))
    shutil.copy(RULES, directory)
    where = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={directory / 'data'}"]
    with running([require_program("prometheus"), f"--config.file={file}", *where], log) as process:
        wait_ready(process, lambda: _listens(port), log, START_TIMEOUT, "prometheus")
        yield


def write_main(directory: Path, site: str) -> None:
    """What Debian's nginx.conf is around a site: here it keeps to a directory and to the foreground."""
    user = "user root;" if os.geteuid() == 0 else ""  # or its workers could not write where only root may
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {kind};" for kind in kinds)
    (directory / "site.conf").write_text(site)
    main = f"{user}\ndaemon off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\ninclude site.conf;\n}}\n"
    (directory / "nginx.conf").write_text(main)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
