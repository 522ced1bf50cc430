"""Forgetting: what a model's files hold of one id, or of before a moment, shown and then deleted, and what stays all the same.

The monitor leaves the model alone meanwhile (`monitoring.pause`). What is learnt cannot be unlearnt: the versions that may have
seen the rows are named. Running it again finds nothing, or what has come since.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import redis

from deployments.model_reference import ModelReference
from deployments.stack.stack import running_stack, store_of
from monitoring.erasure import LogRows, Subject, affected_windows, erase_log, erase_reports, erase_streams, find_log_rows
from monitoring.lease import Lease, lease_key, renewing
from monitoring.page import write_page
from monitoring.pause import pausing
from perennial.errors import SpecError, StackError
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.value_types import parse_time
from service.prediction_log.disk_queue import SUFFIX, spool_of
from service.prediction_log.redis_client import connect, translate_redis_errors
from tasks.data.erasure import DatasetRows, erase_datasets, find_dataset_rows, require_rest

WAIT = timedelta(minutes=2)
"""In which the monitor gives the model up: its longest turn closes a window, with a report."""


@dataclass(frozen=True)
class Forgetting:
    """What a model has of a subject, and the versions that may have learnt it."""

    model: ModelReference
    subject: Subject
    store_url: str
    log: LogRows
    datasets: DatasetRows
    stream_rows: int
    reports: int
    versions: tuple[ModelCard, ...]
    unsent: int

    @property
    def found(self) -> bool:
        return bool(self.log.files or self.datasets.found or self.stream_rows)

    def lines(self) -> dict[str, str]:
        """What goes and what stays, for people."""
        gone = [
            f"{self.log.predictions:,} predictions and {self.log.labels:,} labels of the prediction log",
            f"{self.stream_rows:,} rows of the streams",
            f"{self.datasets.base_rows:,} rows of the dataset that retrainings start from",
            f"{len(self.datasets.others):,} datasets of retrainings, each made anew by the next one",
            f"{self.reports:,} reports of windows in which these predictions lie",
        ]
        return {"forgets": "\n".join(gone), "keeps": "\n".join(self._kept())}

    def _kept(self) -> Iterator[str]:
        if self.versions:
            numbers = ", ".join(str(card.version) for card in self.versions)
            yield (
                f"what versions {numbers} have learnt, and the sample of rows beside each: retrain, promote, "
                "then delete these versions' directories in the registry"
            )
        if not self.datasets.searchable and self.subject.id is not None:
            yield "rows of the sources that were trained on: the spec has no `id` to find them by"
        yield "counts and averages of windows, your own sources and label tables, W&B runs, backups, and logs of other programs"
        if self.unsent:
            yield f"{self.unsent} disk queues of the service that the store has not taken yet: run this again afterwards"


def subject_of(id_: str | None, before: str | None) -> Subject:
    """The subject of the command's options; raises SpecError where not one of them is given, or the time is none."""
    if (id_ is None) == (before is None):
        raise SpecError("say whose rows: `--id ID` for one prediction id, or `--before 2025-01-01` for all older ones")
    if before is None:
        return Subject(id=id_)
    try:
        return Subject(before=parse_time(before))
    except ValueError as error:
        raise SpecError(f"--before {before!r} is no time ({error}): write ISO 8601, such as 2025-01-01") from None


def plan_forgetting(model: ModelReference, subject: Subject) -> Forgetting:
    """Look at everything and change nothing; raises StackError without a store, StoreUnreachable, ArchiveError, DataError."""
    url = _store_url(model)
    log = find_log_rows(model.home, subject, model.archive_url)
    datasets = find_dataset_rows(model.home, subject)
    with translate_redis_errors(url), connect(url) as store:
        stream_rows = erase_streams(store, model.name, subject, dry=True)
    times = pl.concat([log.times.rename("time").cast(pl.Datetime("us", "UTC")), datasets.times])
    reports = sum(result.report is not None for result in affected_windows(model.home, log.times))
    unsent = len(list(spool_of(model.home).glob(f"*{SUFFIX}")))
    versions = tuple(_learnt(model, times))
    return Forgetting(model, subject, url, log, datasets, stream_rows, reports, versions, unsent)


def forget(plan: Forgetting, now: datetime) -> None:
    """Delete what was shown, and what has come since; raises DataError, ArchiveError, StackError, StoreUnreachable."""
    home, name, url = plan.model.home, plan.model.name, plan.store_url
    require_rest(home, plan.datasets)
    with translate_redis_errors(url), connect(url) as store, _alone(store, plan.model):
        erase_streams(store, name, plan.subject)
        log = find_log_rows(home, plan.subject, plan.model.archive_url)
        windows = affected_windows(home, log.times)
        erase_log(log)
        erase_datasets(home, plan.subject, find_dataset_rows(home, plan.subject), now)
        erase_reports(home, windows)
        write_page(home, plan.model.registry, name, plan.model.settings.prefect_api_url)


@contextmanager
def _alone(store: redis.Redis, model: ModelReference) -> Iterator[None]:
    """Hold the model's lease, so that no monitor reads or writes its log meanwhile."""
    lease, until = Lease(store, lease_key(model.name)), datetime.now(UTC) + WAIT
    with pausing(model.home), renewing(lambda: [lease]):
        while not lease.acquire():
            if datetime.now(UTC) >= until:
                raise StackError(
                    f"a monitor has followed {model.name} for {WAIT.seconds} s although it was asked to pause: does it run with "
                    f"another PERENNIAL_HOME than {model.settings.home}? Nothing was deleted"
                )
            time.sleep(0.2)
        yield


def _learnt(model: ModelReference, times: pl.Series) -> Iterator[ModelCard]:
    """The versions whose training rows reach over one of the times."""
    for version in model.registry.versions(model.name):
        card = load_card(model.registry, model.name, version)
        if times.is_between(card.data.since, card.data.until).any():
            yield card


def _store_url(model: ModelReference) -> str:
    url = store_of(running_stack(model.settings), model.settings)
    if not url:
        raise StackError("the streams may hold predictions too, and no store is known: run `perennial up`, or set REDIS_URL")
    return url
