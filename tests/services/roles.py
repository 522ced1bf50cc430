"""What compose.yaml gives each of its services, made true of processes on this machine.

Variables, secrets and options are those of the file. What differs is what a container has to itself: addresses and directories.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from deployments.package_data import EXAMPLES
from tests.clusters.check import COMPOSE, COMPOSE_FILES
from tests.clusters.files import SERVICES
from tests.support.certificates import make_certificate
from tests.support.processes import free_port, run_to_end, running

Process = subprocess.Popen[bytes]
SECRETS = {name: Path(one["file"]).name for name, one in yaml.safe_load(COMPOSE.read_text())["secrets"].items()}
COMMAND_TIMEOUT = 240.0


class Roles:
    """All services of the file, with their files below one directory; `ports` are where the one of a kind answers."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.home, self.specs, self._secrets = (directory / name for name in ("", "var", "specs", "secrets"))
        self.ports = {name: free_port() for name in ("postgres", "redis", "redis-tls", "prefect", "service", "prometheus")}
        self.store = directory / "redis"
        for new in (self.specs, self.store):
            new.mkdir()
        self._trusted = make_certificate(self.store)
        for file in EXAMPLES.glob("flights.*"):
            shutil.copy(file, self.specs)
        subprocess.run([COMPOSE_FILES / "make-secrets", self._secrets], check=True, capture_output=True)

    def secret(self, name: str) -> str:
        """A secret by its file's name; our own processes reach the store by TLS."""
        found = self._here((self._secrets / name).read_text())
        return self._encrypted(found) if name == "REDIS_URL" else found

    def options(self, service: str) -> list[str]:
        """What follows the program in a service's command."""
        return [self._here(word) for word in SERVICES[service]["command"][1:]]

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service, and where `with-secrets` finds those that are secrets."""
        mounted = self._mount(service)
        given = SERVICES[service]["environment"].items()
        variables = {name: self._here(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))) for name, value in given}
        return {**variables, "SECRETS": str(mounted), "PERENNIAL_HOME": str(self.home)}

    def client(self) -> dict[str, str]:
        """The variables of a person's commands: a worker's, and where the service's keys are."""
        keys = "PERENNIAL_API_KEYS_FILE"
        return {**self.environment("worker"), keys: self.environment("service")[keys]}

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self.directory / f"{name}.log"

    @contextmanager
    def run(self, service: str, name: str, command: Sequence[str | Path], **environ: str) -> Iterator[Process]:
        """A process with what the file gives a service, as long as the block lasts."""
        home = self.directory / f"prefect-{name}"
        home.mkdir(exist_ok=True)
        variables = {**self.environment(service), "PREFECT_HOME": str(home), **environ}
        with running(with_secrets(command), self.log(name), variables, self.directory) as process:
            yield process

    def command(self, *words: str | Path) -> str:
        """What a person's command says; fails when it fails."""
        return run_to_end(with_secrets(words), self.directory, {**os.environ, **self.client()}, COMMAND_TIMEOUT)

    def _mount(self, service: str) -> Path:
        """The directory of a service's secrets. It is written once: a process that starts may just be reading it."""
        mounted = self.directory / f"secrets-{service}"
        if not mounted.exists():
            mounted.mkdir()
            for name in SERVICES[service].get("secrets", ()):
                (mounted / name).write_text(self.secret(SECRETS[name]))
        return mounted

    def _encrypted(self, url: str) -> str:
        plain, encrypted = (f"127.0.0.1:{self.ports[name]}" for name in ("redis", "redis-tls"))
        return f"{url.replace('redis://', 'rediss://').replace(plain, encrypted)}?ssl_ca_certs={self._trusted}"

    def _here(self, text: str) -> str:
        own = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        moved = {"postgres:5432": own["postgres"], "redis:6379": own["redis"], "prefect:4200": own["prefect"]}
        moved |= {"127.0.0.1:4200": own["prefect"], "/run/secrets": str(self._secrets)}
        for there, here in moved.items():
            text = text.replace(there, here)
        return text


def with_secrets(command: Sequence[str | Path]) -> list[str | Path]:
    """A command behind the script that makes variables of its secrets; no command line shows one."""
    return ["/bin/sh", COMPOSE_FILES / "with-secrets", *command]
