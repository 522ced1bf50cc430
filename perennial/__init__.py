"""The kernel of Perennial: what a model *is*. Knows no server, flow engine or tracker.

`perennial.open` is the one exception, and loads nothing before it is called: it is the name under which the whole product is
used from Python, and hands over to `deployments.python_api` (docs/decisions.md says why).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.version import __version__

if TYPE_CHECKING:
    from deployments.python_api import OpenModel

__all__ = ["__version__", "open"]


def open(  # noqa: A001 - read as `perennial.open(...)`; nothing here opens a file
    model: str | Path, *, home: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> "OpenModel":
    """A model by its name or the path of its spec: its versions, predictions, windows and history (docs/python.md)."""
    from deployments.python_api import open_model

    return open_model(model, home=home, environ=environ)
