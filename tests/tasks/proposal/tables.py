"""Tables for the tests of proposals, and what is proposed for them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.data.ingest import assemble
from tasks.data.validate import check_table
from tasks.proposal.propose import Proposal, Wishes, propose
from tasks.proposal.questions import refuse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def proposed(table: Path | str, base: Path, environ: dict[str, str] | None = None, **wishes: Any) -> Proposal:
    """The proposal for a table, whose sample a training would take as it is."""
    found = propose(Wishes(str(table), **wishes), base, environ or {}, refuse, NOW)
    rows = assemble(found.spec, base, environ or {}, 5_000)
    labelled, _ = check_table(rows.frame, found.spec, None, NOW, rows.unread)
    assert labelled.height > 0.9 * rows.frame.height
    assert not rows.odd.height, "nothing of a table that is whole is read as null"
    return found


def impossible(found: Proposal) -> list[str]:
    return [fact.name for fact in found.facts if not fact.possible]


def left_out(found: Proposal, name: str) -> str:
    [why] = [key.why for section in found.sections for key in section.keys if key.value is None and key.name == name]
    return why


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbers(rows: int) -> pl.DataFrame:
    """Two columns to learn from: `amount` and `shop`."""
    amount, shop = chance().normal(10, 3, rows).round(2), chance().integers(0, 3, rows)
    return pl.DataFrame({"amount": amount, "shop": [("north", "east", "south")[code] for code in shop]})


def noisy(frame: pl.DataFrame, spread: float = 2.0) -> pl.Series:
    """Something that follows from `amount`, with noise."""
    return (frame["amount"] + pl.Series(chance(2).normal(0, spread, frame.height))).round(3)


def daily(rows: int, start: date = date(1949, 1, 1)) -> pl.DataFrame:
    days = pl.Series("day", [start + timedelta(days=number) for number in range(rows)])
    return numbers(rows).insert_column(0, days)


def hourly(rows: int) -> pl.DataFrame:
    at = pl.datetime_range(datetime(2020, 1, 1), datetime(2021, 1, 1), "1h", eager=True).head(rows).alias("at")  # noqa: DTZ001
    return numbers(rows).insert_column(0, at)
