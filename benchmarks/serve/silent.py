"""The service without its prediction log, to see what the log costs: `python -m benchmarks.serve.silent --spec <file>`.

There is no setting for it, on purpose. Takes the place of `python -m service` in every process.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.settings import load_settings
from service import server
from service.plan import ServicePlan

if TYPE_CHECKING:
    from service.worker import Worker


def start_silent(plan: ServicePlan) -> "Worker":
    """In a worker's process, before it starts: no batch is made and none handed over."""
    from service import worker
    from service.inference.predictor import Predictor

    Predictor._record = _nothing  # type: ignore[method-assign, assignment]
    return worker.start_worker(plan)


def _nothing(*_: object) -> None:
    """Does what it says."""


def main() -> int:
    """Serve until a signal."""
    server.start_worker = start_silent  # type: ignore[attr-defined]
    return server.serve(load_settings(os.environ), [Path(sys.argv[sys.argv.index("--spec") + 1])])


if __name__ == "__main__":
    sys.exit(main())
