"""What the monitor remembers between runs, in one JSON file, and the result it leaves for every closed window.

Both are replaced whole or not at all. The result of a window is written before the state that calls
it closed, so after a crash in between the window is judged again, with the same event id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from pydantic import AwareDatetime, ValidationError

from monitoring.events import RetrainRequest
from monitoring.policy import Asked, Decision
from monitoring.window import Window
from perennial.atomic_files import replace
from perennial.base import FrozenModel
from perennial.errors import ArchiveError
from perennial.metrics import Metrics
from perennial.model_card import Bounds


class Told(FrozenModel):
    """The last request to retrain, as Prefect confirmed it; times are wall time. When `over`, no reminder is needed."""

    request: RetrainRequest
    at: AwareDatetime
    last: AwareDatetime
    over: bool = False


class MonitorState(FrozenModel):
    """Where the monitor stands: windows that end by `closed_until` are settled."""

    closed_until: AwareDatetime | None = None
    asked: Asked | None = None
    told: Told | None = None


class WindowResult(FrozenModel):
    """What became of one window. Distances, metrics and bounds are those of `version`, the champion at its close."""

    model: str
    version: int
    start: AwareDatetime
    end: AwareDatetime
    rows: int
    labelled: int
    served: dict[int, int]
    cover: float
    seen: float
    drift: float | None
    distances: dict[str, float]
    metrics: Metrics | None
    served_metrics: Metrics | None
    bounds: Bounds
    null_increases: dict[str, float]
    unknown: dict[str, int]
    unreadable: float
    decision: Decision
    report: str | None
    closed_at: AwareDatetime

    @property
    def window(self) -> Window:
        """The window it is about."""
        return Window(start=self.start, end=self.end)


def load_state(home: Path) -> MonitorState:
    """The state under `home`, a fresh one where there is none; raises ArchiveError when the file is not ours."""
    path = _state_path(home)
    try:
        return MonitorState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return MonitorState()
    except (OSError, ValidationError) as error:
        raise ArchiveError(f"{path} cannot be read ({error}); delete it to judge every window anew") from error


def save_state(home: Path, state: MonitorState) -> None:
    """Replace the state; raises ArchiveError when it cannot be written."""
    write_value(_state_path(home), state)


def save_result(home: Path, result: WindowResult) -> Path:
    """Write or replace the result of a window; raises ArchiveError when it cannot be written."""
    path = home / "windows" / f"{result.window.key}.json"
    write_value(path, result)
    return path


def load_results(home: Path) -> tuple[WindowResult, ...]:
    """The results of all closed windows, oldest first."""
    return tuple(WindowResult.model_validate_json(path.read_bytes()) for path in sorted((home / "windows").glob("*.json")))


def write_value(path: Path, value: FrozenModel) -> None:
    """Replace a file by a value in JSON; raises ArchiveError."""
    with writing(path):
        replace(fsspec.filesystem("file"), str(path), value.model_dump_json(indent=1).encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever goes wrong with the disk is an ArchiveError that names the file."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written ({error.strerror or error}): free space or mend the directory") from error


def _state_path(home: Path) -> Path:
    return home / "monitor" / "state.json"
