"""The reconciler: every decision in the ledger comes through, or ends with a reason, whatever was lost or killed on the way.

A Prefect server may lose an event, drop it behind a trigger's brake, or fail at its action with nothing but an event of its
own; a run may die without a word. So what has not started within its time is sent again under a new event id (a living server
ignores one it has seen), and after that its deployment is run directly. A run that gave no sign of life for the lease's time is
dead: its claim is revoked, Prefect is told, which frees its concurrency slot, and the request is sent again, until BUDGET runs
have died. What the registry has already is an outcome and is not done twice. While a run for the request waits or works,
nothing is sent.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from monitoring.events import request_event, send
from monitoring.ledger import Ledger, LedgerEntry, LedgerStep, advance, record_outcome
from monitoring.policy import RetrainRequest
from monitoring.prefect_api import ACTION_FAILED, FLEET, TERMINAL, FlowRun, PrefectApi, configured_api, describe_failed_action
from monitoring.settling import Settled, find_outcome, trained_by_clock
from monitoring.training_lease import is_alive, last_heartbeat, revoke
from perennial.error_reporting import report
from perennial.errors import AutomationFailed, PrefectUnreachable, RunDied
from perennial.registry import Registry
from perennial.spec import ModelSpec

FIRST_WAIT = timedelta(seconds=60)
"""From an event to the start of its run: 8 s on quiet cores, nearly all of it two process starts; sent again sooner, an
event would be sent in vain whenever the machine is busy."""

LAST_WAIT = timedelta(minutes=10)
"""Longest wait: a Prefect server that was away for hours hears of the request within this time of its return."""

BUDGET = 3
"""Runs that may die over one request: what kills three kills the fourth."""

PATIENCE = timedelta(seconds=5)
"""For which a busy Prefect server is asked again; the monitor has other models to follow."""

log = logging.getLogger(__name__)


@dataclass
class Reconciler:
    """Reconciles one model's ledger. One thread uses it."""

    home: Path
    registry: Registry
    spec: ModelSpec
    ledger: Ledger
    lease: timedelta
    spec_path: str | None = None
    connect: Callable[[timedelta], PrefectApi] = configured_api
    _next: dict[str, datetime] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def due(self, closed_until: datetime | None, now: datetime) -> list[LedgerEntry]:
        """The decisions without an outcome that have been as they are for too long, oldest first."""
        return [entry for entry in self.ledger.open_entries() if self._is_due(entry, closed_until, now)]

    def reconcile(self, due: Iterable[LedgerEntry], champion: int, now: datetime) -> int:
        """Carry on with decisions that are due; returns how many were sent again."""
        return sum(self._try(entry, champion, now) for entry in due)

    def _is_due(self, entry: LedgerEntry, closed_until: datetime | None, now: datetime) -> bool:
        """Whether it is. What was decided about an open window is carried out when that is closed."""
        request, since = entry.request, entry.steps[-1].at
        by_clock = entry.planned is not None and entry.stage in ("started", "died")  # what was sent waits in Prefect's database
        if (request is None and not by_clock) or now < self._next.get(entry.event_id, now):
            return False
        if request is not None and entry.stage == "decided" and (closed_until is None or request.window_end > closed_until):
            return False
        if entry.stage == "started":
            beat = last_heartbeat(self.home, entry.flow_run) if entry.flow_run else None
            return now - max(since, beat.at if beat else since) >= self.lease
        return entry.stage == "died" or now >= since + waiting_time(entry.count("sent"))

    def _try(self, entry: LedgerEntry, champion: int, now: datetime) -> bool:
        try:
            with self.connect(PATIENCE) as api:
                if entry.request is None:
                    return self._train_again(entry, api, now)
                return self._reconcile(entry, entry.request, champion, api, now)
        except PrefectUnreachable as error:
            log.warning("decision %s waits for Prefect: %s", entry.event_id, error)
            self._next[entry.event_id] = now + PATIENCE
            return False

    def _reconcile(self, entry: LedgerEntry, request: RetrainRequest, champion: int, api: PrefectApi, now: datetime) -> bool:
        """Bury a dead run, settle what has come through or can no longer, else send it again; whether it was sent."""
        if entry.stage == "started":
            self._bury(entry, api, now)
        died = entry.count("died") + (entry.stage == "started")
        if self._settle(entry, request, champion, died, now) or self._in_line(entry, api, now):
            return False
        self._tell_failed_actions(entry, api)
        run = self._send_again(entry, request, api, now)
        return advance(self.home, entry.event_id, LedgerStep(stage="sent", at=now, flow_run=run))

    def _train_again(self, entry: LedgerEntry, api: PrefectApi, now: datetime) -> bool:
        """Carry on with a training by the clock whose run died: it is settled, or another run is started; whether it was."""
        if entry.stage == "started":
            self._bury(entry, api, now)
        died = entry.count("died") + (entry.stage == "started")
        if (settled := self._settled_by_clock(entry, died)) is not None:
            record_outcome(self.home, entry.event_id, settled.outcome, now, reason=settled.reason)
            return False
        assert entry.planned is not None
        parameters = {"spec": self.spec_path, "scheduled": entry.planned.isoformat()}
        run = api.start_run(api.deployment_id(f"retrain/{FLEET}"), parameters, idempotency_key=f"{entry.event_id}:{died}")
        return advance(self.home, entry.event_id, LedgerStep(stage="sent", at=now, flow_run=run))

    def _settled_by_clock(self, entry: LedgerEntry, died: int) -> Settled | None:
        """What became of a training by the clock whose run died; a version that is to be judged at once is no outcome."""
        version = trained_by_clock(self.registry, self.spec.name, entry.steps[0].at)
        if version is not None and self.spec.policy.promote != "always":
            return Settled("challenger", f"version {version} was trained by the clock since")
        if died >= BUDGET or self.spec_path is None:
            return Settled("failed", f"{died} runs died over it")
        return None

    def _bury(self, entry: LedgerEntry, api: PrefectApi, now: datetime) -> None:
        """Mark the run dead: nothing that it still does counts, and it holds no concurrency slot."""
        run, reason = entry.flow_run, f"run {entry.flow_run} gave no sign of life for {self.lease.total_seconds():g} s"
        log.warning("%s: %s", self.spec.name, reason)
        if run is not None:
            revoke(self.registry, self.spec.name, run, reason, now)
            _end(api, run, reason)
        if advance(self.home, entry.event_id, LedgerStep(stage="died", at=now, flow_run=run, reason=reason)):
            report(RunDied(f"{reason}: it is marked as crashed"), group=("monitoring", "run-died"), model=self.spec.name)

    def _settle(self, entry: LedgerEntry, request: RetrainRequest, champion: int, died: int, now: datetime) -> bool:
        """Write the outcome where there is one: by the registry, by another champion, or because too many runs died."""
        suffice = self.spec.policy.promote != "always"
        found = find_outcome(self.registry, request, challengers_suffice=suffice, since=entry.steps[0].at)
        if found is not None:
            return record_outcome(self.home, entry.event_id, found.outcome, now, reason=found.reason)
        if request.version != champion:
            why = f"the event is about version {request.version}, and version {champion} serves by now"
            return record_outcome(self.home, entry.event_id, "declined", now, reason=why)
        if entry.flow is None:
            return record_outcome(self.home, entry.event_id, "declined", now, reason="there is nothing to roll back to any more")
        if died >= BUDGET:
            return record_outcome(self.home, entry.event_id, "failed", now, reason=f"{died} runs died over it")
        return False

    def _in_line(self, entry: LedgerEntry, api: PrefectApi, now: datetime) -> bool:
        """Whether a run for it waits or works; one that began long ago and gives no sign is ended."""
        assert entry.flow is not None
        running = False
        for run in api.living_runs(entry.flow, entry.event_id):
            if self._stuck(run, now):
                api.end_run(run.id, "CRASHED", "No process works on this run.")
            else:
                running = True
        if running:
            self._next[entry.event_id] = now + FIRST_WAIT
        return running

    def _stuck(self, run: FlowRun, now: datetime) -> bool:
        """Whether a process should work on a run, and none does; a start takes a while."""
        waits = run.state in ("SCHEDULED", "PAUSED") or is_alive(self.home, run.id, now, self.lease)
        return not waits and run.state_at is not None and now - run.state_at >= 2 * FIRST_WAIT

    def _send_again(self, entry: LedgerEntry, request: RetrainRequest, api: PrefectApi, now: datetime) -> str | None:
        """Send the event under a new id, or, from the third time on, run the deployment; the run, where it is known."""
        sent = entry.count("sent")
        log.warning("no run works on decision %s, sent %d times since %s: it is sent again", entry.event_id, sent, entry.sent_at)
        if sent < 2 or self.spec_path is None:
            send(request_event(request, now, self.spec_path, again=sent))
            return None
        parameters = {"spec": self.spec_path, "event": request.model_dump(mode="json")}
        return api.start_run(api.deployment_id(f"{entry.flow}/{FLEET}"), parameters, idempotency_key=f"{entry.event_id}:{sent}")

    def _tell_failed_actions(self, entry: LedgerEntry, api: PrefectApi) -> None:
        """Report automations of ours that fired since it was sent, and whose action failed; sending again mends that."""
        for event in api.events(ACTION_FAILED, entry.sent_at):
            name = str(event["resource"].get("prefect.resource.name", ""))
            if name.startswith("perennial.") and event["id"] not in self._told:
                self._told.add(event["id"])
                said = f"{name}: {describe_failed_action(event)}; the request is sent again"
                log.error("%s", said)
                report(AutomationFailed(said), group=("monitoring", "automation-failed"), model=self.spec.name)


def waiting_time(sent: int) -> timedelta:
    """How long a run may take to start after its event was sent for the n-th time: waits double."""
    return min(FIRST_WAIT * float(2 ** max(sent - 1, 0)), LAST_WAIT)


def _end(api: PrefectApi, run: str, reason: str) -> None:
    """End a run in Prefect, unless that has ended it, or does not know it."""
    found = api.request("GET", f"/flow_runs/{run}", allow_missing=True)
    if found is not None and FlowRun.model_validate(found).state not in TERMINAL:
        api.end_run(run, "CRASHED", reason)
