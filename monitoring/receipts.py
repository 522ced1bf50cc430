"""Receipts: what a retraining says about the request it was started for, one file per request.

An event that Prefect has confirmed may still be lost with its server's memory; only what the retraining itself has
written shows that the request came through. The retrain flow writes them, the monitor reads them.
"""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, ValidationError

from monitoring.policy import RetrainRequestState
from monitoring.state import write_stored
from perennial.atomic_files import create_exclusively
from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat

Outcome = Literal["challenger", "promoted", "held", "rejected", "declined", "failed"]

log = logging.getLogger(__name__)


class Receipt(StoredModel):
    """Where a request stands: `acknowledged` when its retraining has begun, `settled` once there is an outcome."""

    event_id: str
    state: Literal["acknowledged", "settled"]
    at: AwareDatetime
    flow_run: str | None = None
    outcome: Outcome | None = None
    reason: str = ""


def acknowledge(home: Path, event_id: str, now: datetime, flow_run: str | None = None) -> None:
    """Write that a retraining has begun, unless there is a receipt already; raises ArchiveError, ValueError (no UUID)."""
    receipt = Receipt(event_id=event_id, state="acknowledged", at=now, flow_run=flow_run)
    write_stored(receipt_path(home, event_id), receipt, create_exclusively)


def record_outcome(
    home: Path, event_id: str, outcome: Outcome, now: datetime, flow_run: str | None = None, reason: str = ""
) -> None:
    """Write the outcome and why. The first one stands, for a request sent again is declined; but a failure may be made good.

    Raises ArchiveError, ValueError (no UUID).
    """
    standing = read_receipt(home, event_id)
    if standing is None or standing.outcome in (None, "failed"):
        receipt = Receipt(event_id=event_id, state="settled", at=now, flow_run=flow_run, outcome=outcome, reason=reason)
        write_stored(receipt_path(home, event_id), receipt)


def is_acknowledged(home: Path, event_id: str) -> bool:
    """Whether a retraining has begun for this request, whatever became of it."""
    return receipt_path(home, event_id).exists()


def is_settled(home: Path, event_id: str) -> bool:
    """Whether the request has an outcome."""
    receipt = read_receipt(home, event_id)
    return receipt is not None and receipt.state == "settled"


def without_outcome(home: Path, last: RetrainRequestState | None, now: datetime) -> timedelta:
    """How long the last request has been without an outcome, in wall time; zero when it has one or there was none."""
    return timedelta() if last is None or is_settled(home, last.request.event_id) else now - last.sent_at


def read_receipt(home: Path, event_id: str) -> Receipt | None:
    """The receipt of a request; None where there is none, or none that can be read: no receipt may hold the monitor up."""
    path = receipt_path(home, event_id)
    try:
        return read_stored(Receipt, path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, NewerFormat) as error:
        log.warning("%s cannot be read and counts as not settled: %s", path, error)
        return None


def load_receipts(home: Path) -> tuple[Receipt, ...]:
    """Every receipt that can be read, in no order that means anything."""
    found = (read_receipt(home, path.stem) for path in sorted((home / "requests").glob("*.json")))
    return tuple(receipt for receipt in found if receipt is not None)


def receipt_path(home: Path, event_id: str) -> Path:
    """Where a request's receipt is; an id that is no UUID, and so perhaps a path, is a ValueError."""
    return home / "requests" / f"{UUID(event_id)}.json"
