"""`python -m deployments.delivery canary|smoke|rollback-release|down`, as the Makefile calls it."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.delivery import replicas
from deployments.delivery.canary import Rollout
from deployments.delivery.replicas import Delivery
from deployments.delivery.smoke import smoke as smoke_test
from deployments.stack import stack as stacks
from deployments.terminal import make_console, read_settings
from perennial.errors import PerennialError, StackError
from perennial.registry import Registry
from perennial.settings import Settings, authorization

app = App(name="python -m deployments.delivery", help=__doc__, result_action="return_value")

Watch = Annotated[float, Parameter(help="seconds for which the canary answers a tenth of the requests before the others follow")]


@app.command
def canary(
    spec: Annotated[Path, Parameter(help="spec of the model, or a directory of specs")],
    *,
    release: Annotated[str, Parameter(help="Python interpreter of the environment that has the release")] = sys.executable,
    watch: Watch = 10.0,
) -> int:
    """Bring a release to the local replicas, or back to the one before where it fails; exit code 1 then.

    Where no replicas run, two of this installation are started first, beside the store of the running stack or of REDIS_URL.
    """
    settings = read_settings()
    rollout = _rollout(settings, watch)
    delivery = replicas.load_delivery(settings.home) or _start(spec, settings, rollout)
    delivery, outcome = rollout.deliver(delivery, release)
    if outcome.problems:
        return _say(f"rolled back: {'; '.join(outcome.problems)}", 1)
    traffic = f"{outcome.requests} requests were watched" if outcome.requests else "no request came while it was watched"
    return _say(f"{release} runs on {len(delivery.replicas)} replicas ({traffic}); back: make rollback-release", 0)


@app.command
def smoke(url: Annotated[str, Parameter(help="address of a service, such as http://127.0.0.1:8000")]) -> int:
    """Test a running service without leaving a prediction behind; exit code 1 when something is wrong."""
    settings = read_settings()
    problems = smoke_test(url, authorization(settings), Registry(settings.registry_url))
    return _say("\n".join(problems) or f"{url} is well", int(bool(problems)))


@app.command
def rollback_release(*, watch: Watch = 0.0) -> int:
    """Bring the release before the newest promotion back to every replica."""
    settings = read_settings()
    delivery = replicas.load_delivery(settings.home)
    if delivery is None or delivery.previous is None:
        raise StackError("there is no release to go back to: none was promoted here since the replicas were started")
    _, outcome = _rollout(settings, watch).deliver(delivery, delivery.previous)
    return _say("\n".join(outcome.problems) or f"{outcome.release} runs again", int(bool(outcome.problems)))


@app.command
def down() -> int:
    """End the replicas and the proxy."""
    delivery = replicas.load_delivery(read_settings().home)
    if delivery is not None:
        replicas.stop(delivery)
    return _say("the replicas are down" if delivery else "no replicas were running", 0)


def _rollout(settings: Settings, watch: float) -> Rollout:
    registry, console = Registry(settings.registry_url), make_console()
    return Rollout(registry, authorization(settings), timedelta(seconds=watch), lambda step: console.print(step, markup=False))


def _start(spec: Path, settings: Settings, rollout: Rollout) -> Delivery:
    delivery = replicas.plan_delivery(settings.home, spec, sys.executable)
    replicas.start(delivery, stacks.environment_of(settings, os.environ))
    try:
        if problems := [one for replica in delivery.replicas for one in rollout.await_ready(replica, delivery)]:
            raise StackError("; ".join(problems))
    except BaseException:
        replicas.stop(delivery)
        raise
    front = f"http://127.0.0.1:{delivery.proxy_port}" if delivery.proxy_port else " and ".join(r.url for r in delivery.replicas)
    rollout.report(f"two replicas of {sys.executable} answer at {front}")
    return delivery


def _say(text: str, code: int) -> int:
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    try:
        sys.exit(app())
    except PerennialError as error:
        sys.exit(f"error: {error}")
