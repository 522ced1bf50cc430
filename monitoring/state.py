"""What the monitor remembers between runs, in one JSON file, and the result it leaves for every closed window.

Both are replaced whole or not at all. The result of a window is written before the state that calls
it closed, so after a crash in between the window is judged again, with the same event id.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from pydantic import AwareDatetime, Field, ValidationError

from monitoring.champion_account import AccountStatement, ChampionAccount
from monitoring.diagnosis import Diagnosis
from monitoring.policy import Decision, Findings, RetrainRequest
from monitoring.window import Window
from perennial.atomic_files import replace
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import SET_ASIDE, ArchiveError
from perennial.metrics import Metrics

STATE = "monitor/state.json"
"""The state's file, below the model's home."""


class EarlierRequest(FrozenModel):
    """A request as 0.1.0 kept it in the monitor's state; the ledger takes it in."""

    request: RetrainRequest
    sent_at: AwareDatetime
    last_sent_at: AwareDatetime
    closed: bool = False


class MonitorState(StoredModel):
    """Where the monitor stands: windows that end by `closed_until` are closed. `last_request` is of 0.1.0, and read only."""

    closed_until: AwareDatetime | None = None
    last_request: EarlierRequest | None = None
    account: ChampionAccount | None = None

    def account_of(self, champion: int) -> ChampionAccount:
        """The champion's account: a new one where another version was champion, with the windows that wait for labels still."""
        if self.account is not None and self.account.champion == champion:
            return self.account
        return ChampionAccount(champion=champion, waiting=self.account.waiting if self.account else ())


class WindowResult(StoredModel):
    """What became of one window. Findings, distances and metrics are about `version`, the champion at its close."""

    model: str
    version: int
    findings: Findings
    distances: dict[str, float]
    metrics: Metrics | None
    served_metrics: Metrics | None
    served_by_version: dict[int, Metrics] = Field(
        default_factory=dict, description="by the version that answered: metrics of what clients were told, on its own rows"
    )
    rows_by_version: dict[int, int]
    unknown_categories: dict[str, int]
    diagnosis: Diagnosis | None = Field(None, description="the kind of change; None where nothing can be said about the window")
    account: AccountStatement | None = Field(None, description="of the champion; None where a retired version was judged")
    decision: Decision
    report: str | None
    closed_at: AwareDatetime

    @property
    def window(self) -> Window:
        """The window it is about."""
        return self.findings.window


def load_state(home: Path) -> MonitorState:
    """The state under `home`, a fresh one where there is none; raises ArchiveError, NewerFormat."""
    path = home / STATE
    try:
        return read_stored(MonitorState, path.read_bytes(), str(path))
    except FileNotFoundError:
        return MonitorState()
    except (OSError, ValidationError) as error:
        raise ArchiveError(
            f"{path} cannot be read ({error}); `perennial doctor --repair` derives it anew from the windows"
        ) from error


def save_state(home: Path, state: MonitorState) -> None:
    """Replace the state; raises ArchiveError when it cannot be written."""
    write_stored(home / STATE, state)


def save_result(home: Path, result: WindowResult) -> None:
    """Write or replace the result of a window; raises ArchiveError when it cannot be written."""
    write_stored(home / "windows" / f"{result.window.key}.json", result)


def load_results(home: Path, newest: int = 0) -> tuple[WindowResult, ...]:
    """The results of all closed windows, or of so many `newest` ones, oldest first; raises ArchiveError, NewerFormat."""
    return tuple(map(read_result, sorted((home / "windows").glob("*.json"))[-newest:]))


def load_result(home: Path, window: Window) -> WindowResult | None:
    """The result of one window; None where it has none. Raises ArchiveError, NewerFormat."""
    path = home / "windows" / f"{window.key}.json"
    return read_result(path) if path.exists() else None


def newest_result(home: Path) -> WindowResult | None:
    """The result of the window closed last; None before the first one. Raises ArchiveError, NewerFormat."""
    newest = max((home / "windows").glob("*.json"), default=None)
    return read_result(newest) if newest is not None else None


def read_result(path: Path) -> WindowResult:
    """The result in a file; raises ArchiveError, NewerFormat."""
    try:
        return read_stored(WindowResult, path.read_bytes(), str(path))
    except (OSError, ValidationError) as error:
        raise ArchiveError(f"{path} cannot be read ({error}); restore it, or {SET_ASIDE}") from error


def write_stored(path: Path, value: StoredModel, write: Callable[[Any, str, bytes], bool | None] = replace) -> bool:
    """Replace a file by a value in JSON, or create it where `write` is `create_exclusively`; raises ArchiveError.

    False where it was to be created and is there already.
    """
    try:
        return write(fsspec.filesystem("file"), str(path), value.model_dump_json(indent=1).encode()) is not False
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written ({error.strerror or error}): free space or mend the directory") from error
