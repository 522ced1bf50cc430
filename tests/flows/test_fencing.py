"""Runs that are killed or paused at a step's border: what they have done is not done twice, and late they do nothing.

A run in a process of its own stops itself (SIGSTOP) right before a step, for longer than its lease; another run, here, has the
same event; then the first one goes on.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.promote import promote
from flows.retrain import retrain
from monitoring.ledger import OUTCOMES, LedgerEntry, read_entry
from perennial.registry import CHAMPION
from tasks.job import Job
from tests.flows.asking import runs
from tests.flows.test_promote import due, turn
from tests.flows.test_retrain import serving, set_values
from tests.support.processes import python, running, tail
from tests.support.waiting import wait_until
from tests.tasks.promotion.test_retrain_request import EVENT_ID, event

PAUSED = """\
import json, os, signal, sys
from flows import promote
step = getattr(promote, sys.argv[1])

def paused(*arguments, **options):
    os.kill(os.getpid(), signal.SIGSTOP)
    return step(*arguments, **options)

setattr(promote, sys.argv[1], paused)
promote.promote(sys.argv[2], json.loads(sys.argv[3]))
"""


class Killed(BaseException):
    """The end of the process."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def decided(job: Job) -> LedgerEntry:
    found = read_entry(job.home, EVENT_ID)
    assert found is not None
    return found


def promotions(job: Job) -> list[int | None]:
    """The versions that came to serve, but for the first one."""
    return [move.version for move in job.registry.history("small") if move.alias == CHAMPION][1:]


@pytest.mark.parametrize("step", ["publish_challenger", "apply_verdict", "record_outcome"])
def test_of_a_promotion_that_was_paused_and_the_next_one_there_is_one(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERENNIAL_TRAINING_LEASE", "2")
    job, champion = serving(home)
    turn(job, champion)
    command = python("-c", PAUSED, step, str(job.path), json.dumps(due()))
    with running(command, log := home / "paused.log") as paused:
        wait_until(lambda: _stopped(paused, log), 120, f"the run to stop before {step}")
        promote(str(job.path), due())
        assert len(promotions(job)) == 1
        stood = decided(job)
        os.kill(paused.pid, signal.SIGCONT)
        assert paused.wait(120) == 1, tail(log)
    assert "was succeeded by claim" in tail(log)
    assert len(promotions(job)) == 1
    assert decided(job) == stood, "the late run has written nothing"
    assert stood.outcome == "promoted"
    assert sum(one.stage in OUTCOMES for one in stood.steps) == 1
    assert job.registry.versions("small") == (1, 2), "nobody trained what was there, and nobody published late"


def _stopped(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, tail(log)
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def rerun(monkeypatch: pytest.MonkeyPatch, flow: Any, step: str, job: Job, asked: dict[str, Any]) -> None:
    """Kill a run of a flow right before a step, then run it for the same event."""
    with monkeypatch.context() as patch:
        patch.setattr(f"flows.{flow.__name__}.{step}", killed)
        with pytest.raises(Killed):
            flow(str(job.path), asked)
    flow(str(job.path), asked)


def test_a_version_that_was_published_and_not_judged_is_judged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault F4: it was declined as trained already, and nobody has ever judged it."""
    job, champion = serving(home)
    set_values(job, "policy", promote="always")
    turn(job, champion)
    rerun(monkeypatch, retrain, "judge_challenger", job, event())
    assert job.registry.versions("small") == (1, 2)
    assert (promotions(job), decided(job).outcome) == ([2], "promoted")


def test_a_challenger_that_was_published_is_the_outcome(home: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job, champion = serving(home)
    turn(job, champion)
    rerun(monkeypatch, retrain, "record_outcome", job, event())
    assert job.registry.versions("small") == (1, 2)
    assert decided(job).outcome == "challenger"
    assert runs(prefect_api, "retrain")[0]["state"]["message"] == "version 2 was trained for this event already"


def test_a_promotion_that_was_not_written_down_is_the_outcome(
    home: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault F16: its request counted as one that nothing came of."""
    job, champion = serving(home)
    turn(job, champion)
    rerun(monkeypatch, promote, "record_outcome", job, due())
    assert (promotions(job), decided(job).outcome) == ([2], "promoted")
    assert runs(prefect_api, "promote")[0]["state"]["message"] == "version 2 was promoted for this event already"


def test_a_challenger_that_was_published_for_a_promotion_is_judged_and_not_trained_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, champion = serving(home)
    turn(job, champion)
    rerun(monkeypatch, promote, "apply_verdict", job, due())
    assert job.registry.versions("small") == (1, 2)
    assert (promotions(job), decided(job).outcome) == ([2], "promoted")
