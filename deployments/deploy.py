"""Deploying one model's flows: prefect.yaml written for its spec, applied by the real `prefect deploy --all`."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from deployments.prefect_client import PrefectClient
from monitoring.events import resource_id
from perennial.errors import StackError
from perennial.spec import ModelSpec

TEMPLATE = Path(__file__).resolve().parent.parent / "prefect.yaml"
"""The committed file; it is itself valid, for the flights example."""

POOL = "perennial"  # the one work pool, as prefect.yaml names it
DEPLOY_TIMEOUT = timedelta(seconds=180)  # for one `prefect` command; it takes 2 s on a quiet machine, more on a busy server


def render(spec: ModelSpec, path: str, command: str | None = None) -> str:
    """prefect.yaml for another model: only its definitions differ.

    `path` is the spec as the flows open it, relative to the directory of their worker or absolute. `command` starts a flow
    run where it is known; workers elsewhere find their own interpreter.
    """
    definitions = {
        "model": spec.name,
        "spec": path,
        "resource": resource_id(spec.name),
        "promotion": f"perennial.promotion.{spec.name}",
        "monitor_restart": f"perennial.monitor-restart.{spec.name}",
        "infrastructure": {"working_dir": "."} | ({"command": command} if command else {}),
    }
    text = template()
    for anchor, value in definitions.items():
        line = f"&{anchor} {json.dumps(value, ensure_ascii=False)}"  # JSON is YAML, whatever the value holds
        text, count = re.subn(rf"&{anchor} .*", lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        if not count:
            raise StackError(f"{TEMPLATE} has no definition `&{anchor}`: put it back, `perennial deploy` fills it in")
    return text


def template() -> str:
    """The text of prefect.yaml; raises StackError when the checkout is incomplete."""
    try:
        return TEMPLATE.read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(f"{TEMPLATE} cannot be read ({error}): run perennial from a full checkout of its repository") from error


def write(spec: ModelSpec, path: str, target: Path, command: str | None = None) -> Path:
    """Write the rendered file to `target`, which says at its top what it was made from."""
    target.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Written by `perennial deploy` from {path}; edit that, not this.\n"
    target.write_text(head + render(spec, path, command), encoding="utf-8")
    return target


def apply(file: Path, directory: Path, environ: Mapping[str, str]) -> None:
    """Run `prefect deploy --all` on a file against the API of `environ`; raises StackError with what Prefect said."""
    _prefect(("--no-prompt", "deploy", "--all", "--prefect-file", str(file)), directory, environ)


def ensure_pool(api: PrefectClient, directory: Path, environ: Mapping[str, str]) -> None:
    """Create the work pool where it is missing."""
    if not api.has_pool(POOL):
        _prefect(("--no-prompt", "work-pool", "create", POOL, "--type", "process"), directory, environ)


def _prefect(arguments: tuple[str, ...], directory: Path, environ: Mapping[str, str]) -> None:
    said, seconds = f"`prefect {' '.join(arguments)}`", DEPLOY_TIMEOUT.total_seconds()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=directory,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{said} did not end within {seconds:g} s: is the Prefect API overloaded?") from error
    if done.returncode:
        raise StackError(f"{said} failed:\n{done.stdout.strip()[-2_000:]}")
