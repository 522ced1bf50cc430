"""Flow runs without a process: what a Prefect server still believes after the stack was ended or the machine went down.

Left alone they would hold their concurrency slots, and a retraining would wait for one that is long gone.
"""

from datetime import datetime

from deployments.prefect_client.client import FlowRun, PrefectApi

STARTED = ("PENDING", "RUNNING", "CANCELLING")
"""State types of runs that some process was working on."""


def settle_orphans(api: PrefectApi, pool: str, now: datetime) -> int:
    """Give every run a final state whose process or whose time is gone; call it only while the pool's worker is down.

    A scheduled run that is due is skipped, because the next one does the same; a run that somebody asked for is kept.
    Returns how many were settled.
    """
    started = api.runs(pool, STARTED)
    for run in started:
        api.end_run(run, "CRASHED", "The stack was down: the process of this run is gone.")
    missed = [run for run in api.runs(pool, ("SCHEDULED",)) if _missed(run, now)]
    for run in missed:
        api.end_run(run, "CANCELLED", "The stack was down at the time of this run.")
    return len(started) + len(missed)


def _missed(run: FlowRun, now: datetime) -> bool:
    return run.auto_scheduled and run.expected_start is not None and run.expected_start < now
