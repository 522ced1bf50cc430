"""The service without its prediction log, to see what the log costs: `python -m benchmarks.serve.silent --spec <file>`.

There is no setting for it, on purpose: nobody should run it. Takes the place of `python -m service` in every process.
"""

import os
import sys
from pathlib import Path

from perennial.settings import load_settings
from service import server
from service.api import PerennialAPI

PARTS = ("_batch_of_rows", "_batch_of_table")
"""What `service.inference` does for the log alone, before it hands a batch over."""


class SilentAPI(PerennialAPI):
    """Makes no batches of predictions and hands none over."""

    def setup(self, device: str) -> None:
        """In the worker, before it starts."""
        from service import inference  # polars and the learner's library are for workers only
        from service.prediction_log import log

        for name in PARTS:
            getattr(inference, name)  # an error here says that the service has changed and this file has not
            setattr(inference, name, _nothing)
        log.PredictionLog.append = _nothing  # type: ignore[method-assign, assignment]
        super().setup(device)


def _nothing(*_: object) -> None:
    """Does what it says."""


def main() -> int:
    """Serve until a signal."""
    server.PerennialAPI = SilentAPI  # type: ignore[attr-defined]
    return server.serve(load_settings(os.environ), Path(sys.argv[sys.argv.index("--spec") + 1]))


if __name__ == "__main__":
    sys.exit(main())
