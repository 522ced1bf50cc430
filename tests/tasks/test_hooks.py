"""Hooks of flow runs."""

import errno
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import polars
import pytest

from monitoring.ledger import read_entry, start, write_decision
from perennial.errors import ArchiveError, TrainingError
from tasks.hooks import announce_failure, failed_by_machine
from tasks.promotion.retrain_request import read_request
from tests.support.processes import ROOT, python
from tests.tasks.making import make_job
from tests.tasks.promotion.test_retrain_request import event

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def test_a_run_goes_on_when_the_pipe_to_its_worker_is_broken(tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from rich.console import Console",
        "from tasks.hooks import outlive_worker",
        "outlive_worker(None, None, None)",
        "sys.stdin.readline()",
        "Console().print('to nobody')",
        "Path(sys.argv[1]).write_text('alive')",
    )
    command = python("-c", "\n".join(lines), str(tmp_path / "after"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(30)
    assert (tmp_path / "after").read_text() == "alive"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (MemoryError(), True),
        (polars.exceptions.ComputeError("No space left on device (os error 28)"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (TrainingError("no labels"), False),
    ],
)
def test_what_the_machine_lacked_is_told_from_what_would_fail_again(error: Exception, expected: bool) -> None:
    assert failed_by_machine(error) is expected
    outer = ArchiveError("the part cannot be written: free space")
    outer.__cause__ = error
    assert failed_by_machine(outer) is expected


@pytest.mark.parametrize(("error", "stage"), [(OSError(errno.ENOSPC, "full"), "died"), (TrainingError("no labels"), "failed")])
def test_a_run_that_its_machine_failed_is_tried_again_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stage: str
) -> None:
    job, run = make_job(tmp_path), str(uuid4())
    monkeypatch.setenv("PERENNIAL_HOME", str(job.settings.home))
    request = read_request(job, event())
    assert request is not None
    write_decision(job.home, request, NOW)
    start(job.home, request.event_id, NOW, run)
    parameters = {"spec": str(job.path), "event": event()}
    flow_run = SimpleNamespace(id=run, parameters=parameters, expected_start_time=NOW)
    announce_failure(None, flow_run, SimpleNamespace(data=error, message="failed"))
    entry = read_entry(job.home, request.event_id)
    assert entry is not None
    assert (entry.stage, entry.steps[-1].reason) == (stage, str(error))
