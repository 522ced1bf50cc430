"""A process that has imported what a flow run needs, and becomes the run: `python -m deployments.stack.standby_process`.

It imports, then waits for one line on its standard input: the environment of the run, as JSON. With that it goes on as `python -m
prefect.engine` would, in the same process, so that signals, output and exit code are those of an ordinary run. When its
input ends without a line, its worker is gone, and it ends. It costs the memory of the imports, 150 to 200 MB.
"""

import json
import os
import runpy
import sys
from contextlib import suppress
from importlib import import_module

PRELOADED = ("prefect.flow_engine", "flows.monitor", "flows.promote", "flows.retrain", "hyperopt", "lightgbm")
"""What runs that are waited for import, nearly all of their first seconds; not what they load after a promotion."""

ENGINE = "prefect.engine"
"""Prefect's module that carries out the run of its environment."""


def main() -> None:
    """Import, wait, become the run."""
    for module in PRELOADED:
        with suppress(Exception):  # the run imports it again, and fails with the reason in its log
            import_module(module)
    if line := sys.stdin.buffer.readline():
        environment = json.loads(line)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [ENGINE]
        runpy.run_module(ENGINE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
