"""What the parts hold, read from each of them: the archive, the ledger, the registry and Prefect."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import polars as pl

from deployments.prefect_client import FlowRun
from monitoring.ledger import Ledger
from monitoring.partitions import collect
from perennial.log_columns import ID, LABEL, SCORE, VERSION
from perennial.registry import REQUEST
from tests.faults.episodes.accounting import Archived, Cause
from tests.support.stack import Stage


@dataclass
class Parts:
    """Reads one loop; what a version was trained for is read once."""

    loop: Stage
    _trained_for: dict[int, str | None] = field(default_factory=dict)

    def archive(self, wanted: Collection[str]) -> dict[str, Archived]:
        """The rows of these ids, by id."""
        archive = self.loop.archive()
        rows = collect(archive.with_labels(), archive.home).select(ID, VERSION, SCORE, LABEL).filter(pl.col(ID).is_in(wanted))
        first = (pl.col(name).first() for name in (VERSION, SCORE))
        found = rows.group_by(ID).agg(pl.len(), *first, pl.col(LABEL).is_not_null().all())
        return {one: Archived(*values) for one, *values in found.iter_rows()}

    def causes(self) -> list[Cause]:
        """Every decision that a flow carries out, with what came of it."""
        home, registry, name = self.loop.loop.home, self.loop.registry, self.loop.spec.name
        versions = Counter(self._cause_of(version) for version in registry.versions(name))
        verdicts = Counter(move.evidence.get(REQUEST) for move in registry.moves(name))
        completed = Counter(run.event_id for run in self.loop.history.runs("retrain") if _trained(run))
        return [
            Cause(
                one.event_id,
                one.request.window.key if one.request else "",
                one.outcome,
                versions[one.event_id],
                verdicts[one.event_id],
                completed[one.event_id],
            )
            for one in Ledger(home).entries()
        ]

    def _cause_of(self, version: int) -> str | None:
        if version not in self._trained_for:
            self._trained_for[version] = self.loop.card(version).cause.event_id
        return self._trained_for[version]


def _trained(run: FlowRun) -> bool:
    """Whether a run did the work of its cause; one that was declined says why."""
    return run.state == "COMPLETED" and not run.message
