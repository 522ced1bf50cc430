"""Trouble: why one model of a fleet is not followed now, as a file in the model's home until it is followed again.

The monitor writes it beside its report to Sentry, `perennial models` and `perennial status` read it.
"""

import logging
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from monitoring.state import write_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat, PerennialError

log = logging.getLogger(__name__)


class Trouble(StoredModel):
    """What ended a model's last turn, since when its turns fail, and how often they did."""

    since: AwareDatetime
    reason: str
    tries: int = 1


def write_trouble(home: Path, trouble: Trouble) -> None:
    """Write it down if the disk takes it: it may be the disk that is the trouble."""
    try:
        write_stored(_path(home), trouble)
    except (OSError, PerennialError) as error:
        log.warning("what is wrong with the model in %s cannot be written down: %s", home, error)


def read_trouble(home: Path) -> Trouble | None:
    """The trouble of a model; None where it is followed well."""
    path = _path(home)
    try:
        return read_stored(Trouble, path.read_bytes(), str(path))
    except (OSError, ValidationError, NewerFormat):
        return None


def clear_trouble(home: Path) -> None:
    """The model is followed again."""
    _path(home).unlink(missing_ok=True)


def _path(home: Path) -> Path:
    return home / "monitor" / "trouble.json"
