"""The monitor's session: what the active monitor works with between two losses of its lease.

It holds the champion, the prediction log typed by the champion's schema, the stored state and the watermark. All of it is
read from registry and disk when a session begins, so a session may end anywhere without harm. One thread uses it.
"""

from datetime import datetime
from pathlib import Path

from monitoring.archive import MAX_CLOCK_SKEW, Archive
from monitoring.consumer import Batch
from monitoring.policy import RetrainRequest, RetrainRequestState, next_state
from monitoring.state import MonitorState, WindowResult, load_state, save_state
from monitoring.window import ORIGIN, Window, due_windows, newest_rows, watermark, window_at
from perennial.model import Model
from perennial.spec import ModelSpec


class MonitorSession:
    """Champion, log, state and watermark of one active monitor."""

    def __init__(self, spec: ModelSpec, home: Path, model: Model, now: datetime) -> None:
        self._spec, self._home = spec, home
        self.state = load_state(home)
        self.use(model)
        self._newest, self._oldest = self.archive.newest(now), self.archive.oldest()

    def use(self, model: Model) -> None:
        """Judge by this champion from now on, and type the log by its schema."""
        self.model = model
        self.archive = Archive(self._home, self._spec.task, model.card.schema_)

    def advance(self, batch: Batch, now: datetime) -> None:
        """Move the watermark by the archived predictions; a time in the future does not count, nor do one or two rows."""
        records = [entry.record for entry in batch.predictions]
        rows = [asked for record in records for asked in zip(record.event_times, record.ids, strict=True)]
        credible = [asked for asked in rows if ORIGIN <= asked[0] <= now + MAX_CLOCK_SKEW]
        if credible:
            self._newest = newest_rows(self._newest, credible)
            self._oldest = min([min(credible)[0], *([self._oldest] if self._oldest else [])])

    def due(self) -> list[Window]:
        """Windows to close now, oldest first."""
        since, spec, reached = self.state.closed_until or self._oldest, self._spec.window, watermark(self._newest)
        if since is None or reached is None or window_at(since, spec.length).end + spec.lateness > reached:
            return []
        return list(due_windows(spec, since, reached, self.archive.dates()))

    def record(self, result: WindowResult, sent: RetrainRequest | None) -> None:
        """The window is closed: remember it, and the request that was sent."""
        last = next_state(self.state.last_request, sent, result.closed_at)
        self._save(MonitorState(closed_until=result.window.end, last_request=last))

    def remember(self, request: RetrainRequestState) -> None:
        """What has become of the last request."""
        self._save(self.state.model_copy(update={"last_request": request}))

    def _save(self, state: MonitorState) -> None:
        save_state(self._home, state)
        self.state = state
