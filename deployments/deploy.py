"""Deploying the flows: prefect.yaml written for the specs of a fleet, applied by the real `prefect deploy --all`."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from deployments.namesakes import refuse_namesakes
from deployments.package_data import PREFECT_FILE
from deployments.prefect_client import FLEET, PrefectClient
from monitoring.window import ORIGIN
from perennial.errors import StackError
from perennial.spec import ModelSpec
from perennial.spec_policy import PolicySpec

POOL = "perennial"  # the one work pool, as prefect.yaml names it
TAG = "perennial"  # of every deployment in it
DEPLOY_TIMEOUT = timedelta(seconds=180)  # for one `prefect` command; it takes 2 s on a quiet machine, more on a busy server


Schedules = Sequence[Mapping[str, object]]
"""As prefect.yaml writes them: when to train a challenger of a model, and the parameter that says of which."""


def schedules_of(specs: Mapping[str, ModelSpec]) -> Schedules:
    """The trainings by the clock that specs ask for, by their paths as the flows open them.

    An interval is counted from a fixed Monday, so that deploying again moves nothing.
    """
    return [
        {**_time_of(spec.policy), "slug": spec.name, "parameters": {"spec": path, "scheduled": True}}
        for path, spec in specs.items()
        if spec.policy.schedule is not None
    ]


def _time_of(policy: PolicySpec) -> dict[str, object]:
    if policy.interval is not None:
        return {"interval": int(policy.interval.total_seconds()), "anchor_date": ORIGIN.isoformat(), "timezone": "UTC"}
    return {"cron": policy.schedule, "timezone": "UTC"}


def render(specs: Iterable[str], command: str | None = None, schedules: Schedules = ()) -> str:
    """prefect.yaml for other specs: only its definitions differ.

    `specs` are files, directories or lists as the flows open them, relative to the directory of their worker or absolute.
    `command` starts a flow run where it is known; workers elsewhere find their own interpreter.
    """
    infrastructure = {"working_dir": "."} | ({"command": command} if command else {})
    definitions = {"specs": list(specs), "schedules": list(schedules), "infrastructure": infrastructure}
    text = template()
    for anchor, value in definitions.items():
        line = f"&{anchor} {json.dumps(value, ensure_ascii=False)}"  # JSON is YAML, whatever the value holds
        text, count = re.subn(rf"&{anchor} .*", lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        if not count:
            raise StackError(f"{PREFECT_FILE} has no definition `&{anchor}`: put it back, `perennial deploy` fills it in")
    return text


def template() -> str:
    """The text of prefect.yaml; raises StackError when the checkout or the installation is incomplete."""
    try:
        return PREFECT_FILE.read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(f"{PREFECT_FILE} cannot be read ({error}): install perennial again, or complete the checkout") from error


def write(specs: Iterable[str], target: Path, command: str | None = None, schedules: Schedules = ()) -> bool:
    """Write the rendered file to `target`, which says at its top what it was made by; whether that changed it."""
    content = "# Written by `perennial up` or `perennial deploy`; its specs are theirs.\n" + render(specs, command, schedules)
    if target.exists() and target.read_text(encoding="utf-8") == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")
    return True


def is_applied(file: Path, api: PrefectClient) -> bool:
    """Whether the API has every deployment and automation that a file names; what they hold is not looked at."""
    text = file.read_text(encoding="utf-8")
    flows = {name.replace("_", "-") for name in re.findall(r"entrypoint: flows\.\w+\.(\w+)", text)}
    automations = re.findall(r"^ +name: (perennial\.\S+)", text, re.MULTILINE)
    return flows <= api.deployed_flows(FLEET) and set(automations) <= api.automations()


def apply(file: Path, directory: Path, environ: Mapping[str, str]) -> None:
    """Run `prefect deploy --all` on a file against the API of `environ`; raises StackError with what Prefect said."""
    refuse_namesakes(directory)
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
