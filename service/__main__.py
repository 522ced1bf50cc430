"""`python -m service --spec examples/flights.toml`: serve one model. Settings come from the environment."""

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

    parser = argparse.ArgumentParser(prog="python -m service", description="Serve a model over HTTP.")
    parser.add_argument("--spec", type=Path, required=True, help="the model spec, such as examples/flights.toml")
    try:
        return serve(load_settings(os.environ), parser.parse_args().spec)
    except PerennialError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its caller
        return 2


if __name__ == "__main__":
    sys.exit(main())
