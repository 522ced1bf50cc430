"""One stack, episode after episode: traffic, faults at their moments, recovery, and the count from the parts."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from monitoring.window import Window, window_at
from tests.faults.conftest import OPENING, WEEK
from tests.faults.episodes import accounting
from tests.faults.episodes.accounting import Cause, Harm, Tally
from tests.faults.episodes.clients import Clients
from tests.faults.episodes.data_faults import DATA_FAULTS
from tests.faults.episodes.moments import Moments
from tests.faults.episodes.parts import Parts
from tests.faults.episodes.plan import Episode, Fault
from tests.faults.episodes.processes import aim, harm_processes, harmed_part
from tests.faults.episodes.stopped import StoppedStack
from tests.faults.episodes.whole import service_trouble, trouble
from tests.support.stack import Stage
from tests.support.waiting import wait_until

WHOLE_TIMEOUT = 330.0
"""Seconds until the loop is whole: a monitor that nobody restarts comes by the schedule of 300 s, which the times show."""

COUNT_TIMEOUT = 30.0
"""Seconds in which what was answered is archived once all is whole: what a killed process left is looked for every 5 s."""

LOOK = 0.3


@dataclass(frozen=True)
class Ended:
    """An episode that is over: how long it took, which faults came, what went wrong in it, and what is to be known of it."""

    episode: Episode
    seconds: float
    done: tuple[str, ...]
    wrong: Tally
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether the loop kept its promises, and became whole."""
        return self.wrong.clean and not self.notes


@dataclass
class Runner:
    """The stack, its clients, and the books over all episodes."""

    loop: Stage
    clients: Clients
    home: StoppedStack
    workers: int
    harms: list[Harm] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    reported: int = 0
    """Failures of requests that were looked at."""

    def __post_init__(self) -> None:
        self.parts = Parts(self.loop)

    def run(self, episode: Episode) -> Ended:
        """Live through one episode; its count is of the whole life until then, less what was counted before."""
        began, start = time.monotonic(), OPENING + len(self.windows) * WEEK
        window = window_at(start, self.loop.spec.window.length)
        moments = Moments(self.loop, start)
        self.clients.sweep(start)
        self.windows.append(window)
        done, notes = list[str](), list[str]()
        with ExitStack() as harms:
            for fault in episode.faults:
                self._harm(fault, moments, harms, done, notes)
            notes += self._recover(window)
        before = self.tally
        try:
            self.tally = self.count(notes)
        except Exception as error:  # noqa: BLE001 - a part that cannot be read; the next episode counts what this one has left
            notes.append(f"not counted: {type(error).__name__}: {error}")
        return Ended(episode, time.monotonic() - began, tuple(done), self.tally.since(before), tuple(notes))

    def _harm(self, fault: Fault, moments: Moments, harms: ExitStack, done: list[str], notes: list[str]) -> None:
        try:
            if fault.is_of_training and moments.wait(replace(fault, moment="started")) and moments.rolled_back():
                return  # there is no run to harm in a week that goes back to the version before
            aimed = aim(self.loop, fault)
            if not moments.wait(fault):
                notes.append(f"{fault}: its moment did not come")
                return
            for part in self._parts_of(fault):
                harms.enter_context(self._harmed(part))
            done.append(self._do(fault, aimed))
        except Exception as error:  # noqa: BLE001 - whatever a fault has met is of its episode, and the others follow
            notes.append(f"{fault}: {type(error).__name__}: {error}")

    def _do(self, fault: Fault, aimed: list[int]) -> str:
        if fault.kind == "damaged files":
            what, gone = self.home.damage(seed=round(fault.delay * 100))
            self.gone |= gone
            return ", ".join(what)
        if fault.kind in DATA_FAULTS:
            DATA_FAULTS[fault.kind](self.loop, fault, self.clients)
            return fault.kind
        said = harm_processes(self.loop, fault, aimed)
        if fault.kind == "kill supervisor":
            self.home.up()
        return said

    def _parts_of(self, fault: Fault) -> tuple[str, ...]:
        if fault.kind == "damaged files":
            return ("service", "store")
        if fault.kind in ("store out of memory", "disk full", "slow disk"):
            return ("store",)
        part = harmed_part(fault)
        return (part,) if part else ()

    @contextmanager
    def _harmed(self, part: str) -> Iterator[None]:
        """What fails from here until the loop is whole again is not the part's fault."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.harms.append(Harm(part, since, time.monotonic()))

    def _recover(self, window: Window) -> list[str]:
        """Wait until the loop is whole; what is not, where it does not become so."""
        last = ""

        def whole() -> bool:
            nonlocal last
            last = ("the week is being asked" if self.clients.sweeping else "") or trouble(self.loop, window, self.workers) or ""
            if last:
                time.sleep(LOOK)
            return not last

        try:
            wait_until(whole, WHOLE_TIMEOUT, "the loop to be whole")
        except AssertionError:
            return [f"not whole after {WHOLE_TIMEOUT:.0f} s: {last}"]
        return []

    def count(self, notes: list[str]) -> Tally:
        """Everything that went wrong until now, from the parts; waits a while for what is still on its way."""
        answered, accepted = dict(self.clients.answered), set(self.clients.accepted)
        for one in self.gone:
            answered.pop(one, None)
        accepted &= answered.keys()
        deadline = time.monotonic() + COUNT_TIMEOUT
        while True:
            archive = self.parts.archive(answered.keys())
            lost, unjoined = accounting.lost_predictions(answered, archive), accounting.lost_labels(accepted, archive)
            if not (lost or unjoined) or time.monotonic() > deadline:
                break
            time.sleep(LOOK)
        causes, windows = self.parts.causes(), [window.key for window in self.windows]
        double, absent = accounting.doubles(causes), accounting.missing(causes, windows)
        failed = accounting.unexcused(self.clients.failures, self.harms)
        altered = accounting.altered(answered, archive)
        self._tell(notes, failed, altered, double, absent, lost)
        return Tally(len(lost), len(unjoined), len(altered), len(double), len(absent), len(failed))

    def _tell(
        self,
        notes: list[str],
        failed: list[accounting.Failure],
        altered: list[str],
        double: list[Cause],
        absent: list[str],
        lost: list[str],
    ) -> None:
        notes += [f"{failure.path} {failure.reason}" for failure in failed[self.reported :][:3]]
        self.reported = len(failed)
        was = self.tally
        notes += [f"twice: {one}" for one in double] if len(double) > was.double_retrainings else []
        notes += [f"missing: {absent}"] if len(absent) > was.missing_retrainings else []
        notes += [f"lost: {lost[:5]}"] if len(lost) > was.predictions_lost else []
        notes += [f"altered: {altered[:5]}"] if len(altered) > was.predictions_altered else []


def wait_for_service(loop: Stage, workers: int) -> None:
    """Until every process of the service answers."""
    wait_until(lambda: service_trouble(loop, workers) is None, 60, "the service to be whole")
