"""What `perennial dead-letters` shows and does: entries that the monitor has put aside are listed, sent again or deleted.

They are in the store, so the store must answer; the service and the monitor need not run. Sent again, an entry waits in its
stream for the next monitor, which stores it, or puts it aside again if it still cannot read it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Literal

import redis
from rich.table import Column, Table

from deployments.model_reference import find_model
from deployments.stack.stack import environment_of
from monitoring.dead_letters import DeadLetter, delete, read_dead_letters, resend
from perennial.errors import RecordError, StackError
from perennial.settings import Settings
from service.prediction_log.redis_client import connect, translate_redis_errors

LONGEST_TEXT = 80  # characters of an entry in the list

Done = Literal["sent again", "deleted"]


@dataclass(frozen=True)
class DeadLetters:
    """Those of one model that were asked for, and how many of them were sent again or deleted."""

    model: str
    found: tuple[DeadLetter, ...]
    done: Mapping[Done, int]

    def table(self) -> Table:
        """One row for each entry, oldest first."""
        table = Table(
            Column("id", no_wrap=True), Column("put aside", no_wrap=True), "stream", "reason", "text", box=None, pad_edge=False
        )
        for letter in self.found:
            text = letter.text if len(letter.text) <= LONGEST_TEXT else letter.text[:LONGEST_TEXT] + "..."
            cells = (letter.stream.rpartition(":")[2], letter.reason, text)
            table.add_row(letter.id, f"{letter.at:%Y-%m-%d %H:%M:%S}", *(cell.replace("[", r"\[") for cell in cells))
        return table

    def end(self) -> str:
        """The last line: what there is or was done, and what to do next."""
        if self.done:
            said = ", ".join(f"{count:,} {what}" for what, count in self.done.items())
            return f"{said}; what cannot be read is put aside again: perennial dead-letters {self.model}"
        if not self.found:
            return f"no entry of {self.model} was put aside"
        asked = f"perennial dead-letters {self.model} ID --show"
        return (
            f"{len(self.found):,} entries; one of them whole: {asked}; again, or for good: --resend, --delete, with IDs or --all"
        )


def dead_letters(reference: str, ids: Sequence[str], settings: Settings, environ: Mapping[str, str]) -> DeadLetters:
    """The dead letters of a model, or those with these ids; raises StackError (no store), StoreUnreachable, RecordError."""
    with _opened(reference, settings, environ) as (store, model):
        return DeadLetters(model, _chosen(store, model, ids), {})


def dispose(
    reference: str, ids: Sequence[str], done: Done, settings: Settings, environ: Mapping[str, str], *, every: bool = False
) -> DeadLetters:
    """Send some of them again or delete them; `every` instead of ids means all. Raises what `dead_letters` raises."""
    if bool(ids) == every:
        raise RecordError("say which entries: one or more IDs as `perennial dead-letters` lists them, or --all")
    with _opened(reference, settings, environ) as (store, model):
        found = _chosen(store, model, ids)
        act = resend if done == "sent again" else delete
        return DeadLetters(model, found, {done: act(store, model, found)})


@contextmanager
def _opened(reference: str, settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[redis.Redis, str]]:
    model, url = find_model(reference, settings).name, environment_of(settings, environ).get("REDIS_URL")
    if url is None:
        raise StackError(f"there is no store to ask: start the stack with `perennial up {reference}`, or set REDIS_URL")
    with translate_redis_errors(url), closing(connect(url)) as store:
        yield store, model


def _chosen(store: redis.Redis, model: str, ids: Sequence[str]) -> tuple[DeadLetter, ...]:
    found = tuple(letter for letter in read_dead_letters(store, model) if not ids or letter.id in ids)
    if missing := set(ids) - {letter.id for letter in found}:
        raise RecordError(f"{model} has no dead letter {', '.join(sorted(missing))}: `perennial dead-letters {model}` lists them")
    return found
