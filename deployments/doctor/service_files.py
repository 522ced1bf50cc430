"""What services may have left of a model's predictions on disk: queues that no process will find, or that are damaged.

A queue whose process died is brought in by the next service; the doctor does the same where a store answers.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command
from service.prediction_log.adoption import adopt_queue, bring_in, damaged_queues, dead_logs, orphaned_queues, salvage_queue
from service.prediction_log.disk_queue import SIDE_FILES, spool_of
from service.prediction_log.redis_client import connect, translate_redis_errors


def service_damages(home: Path, model: str, store_url: str | None) -> Iterator[Damage]:
    """Everything that is wrong with the disk queues below a model's home; brought in if there is a store."""
    spool, command = spool_of(home), repair_command(model)
    for path in damaged_queues(spool):
        yield Damage(path, "is a disk queue that was damaged", command, _salvage(path, model, store_url))
    for path in orphaned_queues(spool):
        wrong = "is a disk queue without a progress file, which no process will find"
        yield Damage(path, wrong, command, _adopt(path, model, store_url))
    for path in dead_logs(spool) if store_url is not None else ():
        wrong = "holds predictions of a process that died, which no service has brought in"
        yield Damage(path, wrong, command, lambda _quarantine: _brought_in(spool, model, store_url))


def waiting_notes(home: Path) -> list[str]:
    """What waits for a service without being damaged; said where there is no store to bring it into."""
    count = len(dead_logs(spool_of(home)))
    return [f"{spool_of(home)}: {count} disk queues wait for a service: perennial up SPEC brings them in"] if count else []


def _adopt(path: Path, model: str, store_url: str | None) -> Repair:
    return lambda _quarantine: f"adopted with {adopt_queue(path):,} rows; {_brought_in(path.parent, model, store_url)}"


def _salvage(path: Path, model: str, store_url: str | None) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        rows = salvage_queue(path)
        for end in SIDE_FILES[1:]:
            if (beside := Path(f"{path}{end}")).exists():
                quarantine.move(beside)
        kept = f"moved to {quarantine.move(path)}, where the others are"
        return f"{rows:,} rows could be read and are queued anew; {kept}; {_brought_in(path.parent, model, store_url)}"

    return repair


def _brought_in(spool: Path, model: str, store_url: str | None) -> str:
    """Bring in what dead processes left, in words."""
    if store_url is None:
        return "the next service brings them in: perennial up SPEC"
    with translate_redis_errors(store_url), closing(connect(store_url)) as store:
        rows, lost = bring_in(spool, store, store_url, model)
    return f"{rows:,} rows brought into the stream, {lost:,} lost"
