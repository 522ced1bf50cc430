"""`python -m service --spec examples/flights.toml [--spec ...]`: serve models. Settings come from the environment.

A directory of specs, or a list as `perennial up` writes it, is read again while the service runs: models are added and removed.
"""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Serve until a signal; an error a person can fix is one line, not a traceback."""
    # Imported here: every process the service starts imports this module again.
    from perennial.errors import PerennialError
    from perennial.settings import load_settings
    from service.server import serve

    parser = argparse.ArgumentParser(prog="python -m service", description="Serve models over HTTP.")
    spec_help = "a model spec, such as examples/flights.toml, a directory of specs or a list of them; may be given again"
    parser.add_argument("--spec", type=Path, required=True, action="append", dest="specs", help=spec_help)
    try:
        return serve(load_settings(os.environ), parser.parse_args().specs)
    except PerennialError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its caller
        return 2


if __name__ == "__main__":
    sys.exit(main())
