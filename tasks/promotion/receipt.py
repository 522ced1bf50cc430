"""Receipt: the retraining writes down that it has taken a request, and what came of it, for the monitor to read.

A retraining by hand was asked for by nobody and leaves no receipt.
"""

from datetime import UTC, datetime

from monitoring import receipts
from monitoring.events import RetrainRequest
from monitoring.receipts import Outcome
from tasks.job import Job
from tasks.promotion.gate import Verdict
from tasks.task_defaults import step

OUTCOMES: dict[str, Outcome] = {"promote": "promoted", "hold": "held", "reject": "rejected"}
"""What each decision of the gate is called once it has been carried out."""


def write_outcome(job: Job, request: RetrainRequest | None, outcome: Outcome, now: datetime) -> None:
    """The request is settled; raises ArchiveError when that cannot be written."""
    if request is not None:
        receipts.settle(job.home, request.event_id, outcome, now, job.run_id)


@step("take request")
def take(job: Job, request: RetrainRequest | None) -> None:
    """From here on the monitor need not ask again."""
    if request is not None:
        receipts.take(job.home, request.event_id, datetime.now(UTC), job.run_id)


@step("settle request")
def answer(job: Job, request: RetrainRequest | None, verdict: Verdict | None) -> None:
    """What the gate decided; without a verdict the request was declined."""
    write_outcome(job, request, OUTCOMES[verdict.decision] if verdict else "declined", datetime.now(UTC))
