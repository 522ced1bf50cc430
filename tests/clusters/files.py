"""The deployment files as values: programs that compose file, Kubernetes objects and job template start, and workflows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.clusters.check import COMPOSE, KUBERNETES, WORKFLOWS

OBJECTS: list[tuple[str, dict[str, Any]]] = [
    (f"{path.parent.name}/{path.name}", document)
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
"""Every document below deployments/kubernetes, with the file that it is from."""

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
FLOWS: dict[str, dict[str, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in WORKFLOWS}
JOB_TEMPLATE = json.loads((KUBERNETES / "base" / "base-job-template.json").read_text())
"""Of the flow runs on Kubernetes, as the work pool has it."""

OURS = ("perennial:serve", "perennial:full", "perennial-serve", "perennial-full")
"""How images of ours are called; a name that ends in `serve` has not what the other one has."""


@dataclass(frozen=True)
class Program:
    """One container: which image runs which command, with which variables, ports and paths that are asked for."""

    where: str
    image: str
    command: tuple[str, ...]
    variables: frozenset[str]
    ports: frozenset[int]
    paths: frozenset[str]

    @property
    def is_ours(self) -> bool:
        return self.image.endswith(OURS)


def programs() -> Iterator[Program]:
    """Every container of the compose file, of the Kubernetes objects, and of the Jobs that the worker makes."""
    yield from (_of_compose(name, service) for name, service in SERVICES.items())
    for where, pod in pods():
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield _of_pod(f"{where} {container['name']}", container)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's specification, with what it is of."""
    yield "job template", JOB_TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    for where, thing in OBJECTS:
        if "template" in thing.get("spec", {}):
            yield f"{where} {thing['kind']} {thing['metadata']['name']}", thing["spec"]["template"]["spec"]


def _of_compose(name: str, service: dict[str, Any]) -> Program:
    image = service["image"].removeprefix("${").partition(":-")[2].removesuffix("}")
    secrets = {secret for secret in service.get("secrets", ()) if secret.isupper()}
    variables = frozenset({*service.get("environment", {}), *secrets})
    asked = " ".join(service["healthcheck"]["test"]) if "healthcheck" in service else ""
    urls = [word for word in asked.replace("'", " ").split() if word.startswith("http://127.0.0.1:")]
    ports = {int(url.split(":")[2].partition("/")[0]) for url in urls}
    paths = {"/" + url.split(":")[2].partition("/")[2] for url in urls}
    return Program(f"compose {name}", image, tuple(service.get("command", ())), variables, frozenset(ports), frozenset(paths))


def _of_pod(where: str, container: dict[str, Any]) -> Program:
    own = container.get("env", ())
    variables = frozenset(one["name"] for one in own) if isinstance(own, list | tuple) else frozenset()
    ports = frozenset(port["containerPort"] for port in container.get("ports", ()))
    probes = [probe["httpGet"] for name, probe in container.items() if name.endswith("Probe") and "httpGet" in probe]
    command = container.get("command", ())
    return Program(where, container["image"], tuple(command), variables, ports, frozenset(probe["path"] for probe in probes))
