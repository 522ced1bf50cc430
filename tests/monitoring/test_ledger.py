"""The decision ledger: steps that may follow one another, one outcome, whatever the order of deliveries and deaths."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import ledger
from monitoring.ledger import (
    FOLLOWS,
    OUTCOMES,
    Ledger,
    LedgerEntry,
    LedgerStep,
    Outcome,
    Stage,
    adopt,
    advance,
    may_follow,
    read_entry,
    record_outcome,
    start,
    without_outcome,
    write_decision,
)
from monitoring.state import MonitorState
from perennial.errors import ArchiveError
from tests.monitoring.requests import WINDOW, request_for
from tests.monitoring.room import no_room
from tests.support.models import START

ID = "6ba7b810-9dad-51d1-80b4-00c04fd430c8"
LATER = START + timedelta(hours=1)
STAGES: tuple[Stage, ...] = ("decided", "sent", "started", "died", *OUTCOMES)


def entry_of(home: Path, event_id: str = ID) -> LedgerEntry:
    found = read_entry(home, event_id)
    assert found is not None
    return found


def test_a_decision_goes_its_way_step_by_step(tmp_path: Path) -> None:
    request = request_for("small")
    assert write_decision(tmp_path, request, START)
    assert advance(tmp_path, request.event_id, LedgerStep(stage="sent", at=START + timedelta(seconds=1)))
    assert start(tmp_path, request.event_id, START + timedelta(seconds=4), "run-1")
    assert record_outcome(tmp_path, request.event_id, "promoted", LATER, "run-1")
    found = entry_of(tmp_path, request.event_id)
    assert [step.stage for step in found.steps] == ["decided", "sent", "started", "promoted"]
    assert (found.request, found.flow, found.flow_run, found.outcome) == (request, "retrain", "run-1", "promoted")
    assert found.sent_at == START + timedelta(seconds=1)
    (file, *_) = sorted((tmp_path / "decisions" / request.event_id).iterdir())
    written = json.loads(file.read_bytes())
    assert (file.name, written["format"], written["stage"]) == ("0001.json", 1, "decided")


def test_the_same_decision_is_written_once(tmp_path: Path) -> None:
    assert write_decision(tmp_path, request_for("small"), START)
    assert not write_decision(tmp_path, request_for("small"), LATER)
    (only,) = Ledger(tmp_path).entries()
    assert only.steps[0].at == START


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [("held", "declined", "held"), ("promoted", "failed", "promoted"), ("failed", "promoted", "promoted"), ("failed",) * 3],
)
def test_the_first_outcome_stands_but_a_failure_may_be_made_good(
    tmp_path: Path, first: Outcome, second: Outcome, stands: str
) -> None:
    for outcome in (first, second):
        start(tmp_path, ID, START, "run-1")
        record_outcome(tmp_path, ID, outcome, START, "run-1")
    assert entry_of(tmp_path).outcome == stands


def test_a_run_that_another_one_has_succeeded_writes_no_outcome(tmp_path: Path) -> None:
    start(tmp_path, ID, START, "run-1")
    start(tmp_path, ID, START, "run-2")
    assert not record_outcome(tmp_path, ID, "promoted", LATER, "run-1")
    assert record_outcome(tmp_path, ID, "rejected", LATER, "run-2")
    assert entry_of(tmp_path).outcome == "rejected"


def test_a_run_that_counts_as_dead_writes_nothing_any_more(tmp_path: Path) -> None:
    start(tmp_path, ID, START, "run-1")
    assert not advance(tmp_path, ID, LedgerStep(stage="died", at=LATER, flow_run="run-2")), "another one is at work"
    assert advance(tmp_path, ID, LedgerStep(stage="died", at=LATER, flow_run="run-1"))
    assert not start(tmp_path, ID, LATER, "run-1")
    assert not record_outcome(tmp_path, ID, "promoted", LATER, "run-1")
    assert start(tmp_path, ID, LATER, "run-2")
    assert entry_of(tmp_path).stage == "started"


def test_what_may_follow_is_written_for_every_stage() -> None:
    assert set(get_args(Stage)) == set(STAGES)
    assert {stage for stage in FOLLOWS if stage is not None} | set(OUTCOMES) == set(STAGES)
    final = set(OUTCOMES) - {"failed"}
    assert not final & {stage for stage in FOLLOWS if stage is not None}, "nothing follows an outcome"
    assert all(set(OUTCOMES) <= set(FOLLOWS[stage]) for stage in ("decided", "sent", "started", "died"))
    assert not any("decided" in after for stage, after in FOLLOWS.items() if stage is not None), "a decision is made once"


STEPS = st.builds(
    LedgerStep, stage=st.sampled_from(STAGES), at=st.just(START), flow_run=st.sampled_from([None, "run-1", "run-2", "run-3"])
)


@given(st.lists(STEPS, max_size=12))
@settings(max_examples=200)
def test_in_whatever_order_steps_are_tried_there_is_one_outcome_and_it_stands(tried: list[LedgerStep]) -> None:
    entry, outcomes = None, []
    for step in tried:
        if not may_follow(entry, step):
            continue
        before = entry.steps if entry else ()
        assert step.flow_run is None or step.flow_run not in (entry.died if entry else ()), "the dead write nothing"
        entry = LedgerEntry(event_id=ID, steps=(*before, step))
        outcomes += [step.stage] if step.stage in OUTCOMES and step.stage != "failed" else []
        if before and before[-1].stage == "started" and step.stage in OUTCOMES:
            assert step.flow_run in (None, before[-1].flow_run) or before[-1].flow_run is None
    assert len(outcomes) <= 1
    if outcomes and entry is not None:
        assert entry.outcome == outcomes[0]


def test_of_writers_at_once_one_is_first_and_no_step_is_lost(tmp_path: Path) -> None:
    write_decision(tmp_path, request_for("small"), START)
    event_id = request_for("small").event_id
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda number: start(tmp_path, event_id, LATER, f"run-{number}"), range(16)))
        ended = list(pool.map(lambda number: record_outcome(tmp_path, event_id, "held", LATER, f"run-{number}"), range(16)))
    assert (started, sum(ended)) == ([True] * 16, 1)
    found = entry_of(tmp_path, event_id)
    assert len({step.flow_run for step in found.steps if step.stage == "started"}) == 16
    assert found.steps[-1].flow_run == found.steps[-2].flow_run


def test_a_step_that_cannot_be_read_holds_nobody_up(tmp_path: Path) -> None:
    start(tmp_path, ID, START, "run-1")
    (tmp_path / "decisions" / ID / "0001.json").write_text("{")
    assert read_entry(tmp_path, ID) is None
    assert start(tmp_path, ID, LATER, "run-2"), "under the next number"
    assert [path.name for path in sorted((tmp_path / "decisions" / ID).iterdir())] == ["0001.json", "0002.json"]


def test_a_step_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "decisions").write_text("a file where a folder should be")
    with pytest.raises(ArchiveError, match=r"0001\.json cannot be written"):
        start(tmp_path, ID, START)


def test_on_a_full_disk_the_steps_before_stay(tmp_path: Path) -> None:
    start(tmp_path, ID, START)
    with no_room(), pytest.raises(ArchiveError, match="free space"):
        record_outcome(tmp_path, ID, "failed", START, reason="r" * 2_000)
    assert entry_of(tmp_path).stage == "started"


def test_an_id_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UUID"):
        read_entry(tmp_path, "../../state")


def test_a_decision_is_found_by_its_window_and_the_last_one_of_a_flow_by_its_time(tmp_path: Path) -> None:
    book, request = Ledger(tmp_path), request_for("small")
    assert (book.last_request(), book.about(WINDOW)) == (None, None)
    write_decision(tmp_path, request, START)
    rolled = request.model_copy(update={"cause": "rollback", "event_id": ID, "window_start": WINDOW.end})
    write_decision(tmp_path, rolled, LATER)
    last, about = book.last_request(), book.about(WINDOW)
    assert last is not None
    assert last == about == read_entry(tmp_path, request.event_id), "a rollback is no request to a flow"
    assert entry_of(tmp_path).flow is None


def test_a_decision_is_without_an_outcome_until_it_has_one(tmp_path: Path) -> None:
    assert without_outcome(None, LATER) == timedelta()
    start(tmp_path, ID, START)
    assert without_outcome(entry_of(tmp_path), LATER) == timedelta(hours=1)
    record_outcome(tmp_path, ID, "held", LATER)
    assert without_outcome(entry_of(tmp_path), LATER) == timedelta()


def receipt(home: Path, **fields: object) -> None:
    """A file of 0.1.0, before there was a ledger."""
    (home / "requests").mkdir(exist_ok=True)
    content = {"format": 1, "event_id": ID, "flow_run": "run-1", "at": "2024-01-01T00:00:00Z", "reason": "", **fields}
    (home / "requests" / f"{ID}.json").write_text(json.dumps(content))


def test_receipts_of_0_1_0_are_read_and_carried_on(tmp_path: Path) -> None:
    receipt(tmp_path, state="acknowledged", outcome=None)
    assert entry_of(tmp_path).stage == "started"
    receipt(tmp_path, state="settled", outcome="declined", reason="why not")
    (only,) = Ledger(tmp_path).entries()
    assert (only.outcome, only.steps[0].reason, only.flow_run) == ("declined", "why not", "run-1")
    assert not start(tmp_path, ID, LATER, "run-2")


def test_the_request_that_0_1_0_kept_in_its_state_is_taken_in_once(tmp_path: Path) -> None:
    request = request_for("small").model_copy(update={"event_id": ID})
    receipt(tmp_path, state="acknowledged", outcome=None)
    for _ in range(2):
        adopt(tmp_path, request, START - timedelta(minutes=1))
    found = entry_of(tmp_path)
    assert [step.stage for step in found.steps] == ["decided", "sent", "started"]
    assert found.request == request


@given(st.data())
@settings(max_examples=25)
def test_whoever_is_killed_wherever_each_cause_has_one_outcome_in_the_end(data: st.DataObject) -> None:
    """A monitor and its runs, each killed between any two of its writes; then everybody is left in peace, and it ends."""
    with TemporaryDirectory() as folder:
        life = _Life(Path(folder))
        for _ in range(data.draw(st.integers(0, 12))):
            getattr(life, data.draw(st.sampled_from(["decide", "deliver", "work", "late", "bury"])))(data.draw(st.booleans()))
        life.in_peace()
        found = entry_of(life.home, life.event_id)
        assert found.outcome in ("promoted", "failed")
        assert life.promotions == (found.outcome == "promoted")
        assert sum(step.stage in OUTCOMES for step in found.steps) == 1


class _Life:
    """One decision: `moves` stands for the registry's move, which is made once and says whose it is."""

    def __init__(self, home: Path) -> None:
        self.home, self.event_id = home, request_for("small").event_id
        self.promotions, self.token, self.runs = 0, 0, list[tuple[str, int]]()
        self.now: datetime = START

    def decide(self, killed: bool) -> None:
        write_decision(self.home, request_for("small"), self.now)
        if not killed:
            advance(self.home, self.event_id, LedgerStep(stage="sent", at=self.now))

    def deliver(self, killed: bool) -> None:
        """A run begins, as often as an event comes; it claims its token, and is killed before its first word or after."""
        self.token += 1
        run = f"run-{self.token}"
        if not killed and start(self.home, self.event_id, self.now, run):
            self.runs.append((run, self.token))

    def work(self, killed: bool) -> None:
        """The newest run promotes, unless the registry has that already or a newer claim; and writes it down, or is killed."""
        if not self.runs:
            return
        run, token = self.runs[-1]
        if token != self.token:
            return
        self.promotions += not self.promotions
        if not killed:
            record_outcome(self.home, self.event_id, "promoted", self.now, run)

    def late(self, killed: bool) -> None:
        """An earlier run goes on after a pause: the registry refuses it, and the ledger would, too."""
        run, token = self.runs[0] if self.runs else ("run-0", 0)
        if token != self.token:
            stands = read_entry(self.home, self.event_id)
            outcome: Outcome = "failed" if killed else "rejected"
            if stands is not None and stands.stage == "started" and stands.flow_run != run:
                assert not record_outcome(self.home, self.event_id, outcome, self.now, run)

    def bury(self, killed: bool) -> None:
        """The monitor takes the run at work for dead, and carries on, unless it is killed between."""
        found = read_entry(self.home, self.event_id)
        if found is not None and found.stage == "started":
            self.token += 1
            advance(self.home, self.event_id, LedgerStep(stage="died", at=self.now, flow_run=found.flow_run))
        if found is not None and not killed and self.promotions:
            record_outcome(self.home, self.event_id, "promoted", self.now)

    def in_peace(self) -> None:
        self.decide(killed=False)
        self.bury(killed=False)
        self.deliver(killed=False)
        self.work(killed=False)


def test_an_old_state_is_still_read(tmp_path: Path) -> None:
    told = request_for("small").model_dump(mode="json")
    at = "2024-01-08T00:00:00Z"
    state = MonitorState.model_validate({"last_request": {"request": told, "sent_at": at, "last_sent_at": at, "closed": False}})
    assert state.last_request is not None
    adopt(tmp_path, state.last_request.request, state.last_request.sent_at)
    assert ledger.Ledger(tmp_path).last_request() is not None


def test_a_failure_that_a_later_run_made_good_is_seen_by_a_ledger_that_has_read_it_as_failed(tmp_path: Path) -> None:
    known = Ledger(tmp_path)
    start(tmp_path, ID, START, "run-1")
    record_outcome(tmp_path, ID, "failed", START, "run-1")
    assert [entry.outcome for entry in known.entries()] == ["failed"]
    start(tmp_path, ID, LATER, "run-2")
    assert [entry.event_id for entry in known.open_entries()] == [ID]
    record_outcome(tmp_path, ID, "promoted", LATER, "run-2")
    assert [entry.outcome for entry in known.entries()] == ["promoted"]
