"""Hooks: what a flow run is called, and what happens when it fails."""

import errno
import logging
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError

OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
NO_SPACE = os.strerror(errno.ENOSPC)

logger = logging.getLogger(__name__)


def run_name() -> str:
    """`flights until 2013-03-01`, `flights after drift of version 3`: what the running flow is about."""
    from prefect.runtime import flow_run

    parameters: dict[str, Any] = flow_run.get_parameters()
    model, event, until = Path(str(parameters["spec"])).stem, parameters.get("event"), parameters.get("until")
    if isinstance(event, dict):
        return f"{model} after {event.get('cause')} of version {event.get('version')}"
    about = f"until {until}" if until else Path(parameters.get("source") or "").name
    return f"{model} {about}".rstrip()


def fleet_run_name() -> str:
    """`flights`, `2 specs`, `fleet`: what the running monitor follows."""
    from prefect.runtime import flow_run

    given = flow_run.get_parameters()["specs"]
    names = [given] if isinstance(given, str) else list(given)
    return Path(names[0]).stem if len(names) == 1 else f"{len(names)} specs"


def outlive_worker(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - a hook of Prefect
    """Let a run go on whose worker was killed: rich would end it at the first line that the broken pipe refuses."""
    from rich.console import Console

    Console.on_broken_pipe = _be_quiet  # type: ignore[assignment, method-assign]  # they are Prefect's


def _be_quiet(console: Any) -> None:
    console.quiet = True


def report_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Send the error that ended a flow run to Sentry."""
    from perennial.error_reporting import flush, report

    if (error := error_of(state)) is not None:
        report(error, group=("flow", flow.name), flow=flow.name, flow_run=str(flow_run.id))
        flush()


def announce_failure(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's signature
    """Write down that a retraining failed, and send it to Prefect as an event."""
    from monitoring import events
    from monitoring.policy import RetrainRequest
    from tasks.job import load_job, planned_moment
    from tasks.promotion.retrain_request import record_outcome, try_again
    from tasks.reporting.outcome import announce

    try:
        job = load_job(str(flow_run.parameters["spec"]), dict(os.environ), datetime.now(UTC), str(flow_run.id))
        planned = planned_moment(flow_run.parameters.get("scheduled", False), flow_run.expected_start_time)
        job = replace(job, planned=planned)
        payload = flow_run.parameters.get("event")
        request = RetrainRequest.model_validate(payload) if payload else None
    except (PerennialError, ValueError):
        return  # a spec or an event that cannot be read is what failed, and names no model
    error = error_of(state)
    reason = str(error or state.message)[:500]
    try:
        if error is None or not (failed_by_machine(error) and try_again(job, request, reason)):
            record_outcome.fn(job, request, "failed", reason)
    except (PerennialError, ValueError) as failure:
        logger.warning("the failure is announced, but not written down: %s", failure)
    announce.fn(job, events.RETRAIN_FAILED, request, error=reason)


def error_of(state: Any) -> BaseException | None:
    """The exception of a failed state, if it is known; the engine wraps it where results may be kept."""
    error = getattr(state.data, "result", state.data)
    return error if isinstance(error, BaseException) else None


def failed_by_machine(error: BaseException) -> bool:
    """Whether the machine had no room, memory or files left, or its disk failed: what another run may do well."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError) or (isinstance(chain, OSError) and chain.errno in OF_THE_MACHINE):
            return True
        if NO_SPACE in str(chain):  # libraries that write without Python tell it in words alone
            return True
        chain = chain.__cause__ or chain.__context__
    return False
