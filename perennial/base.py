"""Base classes of declared values: `FrozenModel` for values in memory, `StoredModel` for files that outlive a process.

A stored value carries `format`, the version of its file format. A reader asks `read_stored`, which looks at that number
before anything else, so that a file of a newer release is refused as such, not for a key that this release does not know.
"""

from contextlib import suppress
from typing import Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict

from perennial.errors import NewerFormat

FORMAT: Literal[1] = 1  # format of every stored value that this release writes, and the newest it reads
MODEL_NAME = r"[a-z][a-z0-9-]{0,62}"  # what a model may be called: a part of paths, addresses, keys and resource names

Stored = TypeVar("Stored", bound="StoredModel")


class FrozenModel(BaseModel):
    """An immutable value, compared by content; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class StoredModel(FrozenModel):
    """A value that is written to a file; `format` is its first key."""

    format: Literal[1] = FORMAT


def read_stored(kind: type[Stored], content: bytes, where: str) -> Stored:
    """The value in a file's content; `where` is what messages call it. Raises NewerFormat, or else pydantic's ValidationError."""
    with suppress(orjson.JSONDecodeError):  # the validation below says what is wrong
        raw = orjson.loads(content)
        refuse_newer_format(raw.get("format") if isinstance(raw, dict) else None, where)
    return kind.model_validate_json(content)


def refuse_newer_format(found: object, where: str) -> None:
    """Raise NewerFormat when a format, as it was found, is higher than the one this release knows."""
    if isinstance(found, int) and found > FORMAT:
        newer = f"a newer release of Perennial (format {found}, this one reads {FORMAT})"
        raise NewerFormat(f"{where} was written by {newer}: upgrade this one")
