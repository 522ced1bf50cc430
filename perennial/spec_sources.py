"""Sources and joins of a spec: where the tables are, how their text is written, and how one is joined to another.

Declarations only, as in `perennial.spec`: `tasks.data` reads and joins.
"""

import codecs
import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from perennial.base import FrozenModel
from perennial.durations import Duration
from perennial.redaction import StoredAddress, without_credentials

_RATE = re.compile(r"(?P<rows>\d+(?:\.\d+)?)/(?P<unit>second|minute|hour|day|week)")

Character = Annotated[str, Field(min_length=1, max_length=1)]


class SourceSpec(FrozenModel):
    """One table: a file or URL, a query on a database, or a Python loader. Exactly one of the three."""

    path: StoredAddress | None = Field(
        None, description="CSV or Parquet file, glob or URL (s3://, gs://, https://); relative to the spec"
    )
    query: str | None = Field(None, description="SQL to run on the database that `connection` names")
    connection: str | None = Field(None, description="environment variable that holds the SQLAlchemy URL of the database")
    loader: str | None = Field(None, description="`file.py:function` beside the spec, returning a polars frame")
    nulls: tuple[str, ...] = Field(("", "NA", "NULL"), description="texts that mean null in a CSV file")
    separator: Character | None = Field(None, description="between the cells of a CSV file (default: `,`; a tab in .tsv)")
    decimal: Literal[".", ","] = Field(".", description="decimal sign of a CSV file's numbers")
    thousands: Character | None = Field(None, description="sign between groups of three digits in a CSV file, such as `,`")
    encoding: str = Field("utf-8", description="of a CSV file, by the name Python has for it: `cp1252`, `latin-1`, `utf-16`...")
    quote: Annotated[str, Field(max_length=1)] = Field('"', description='around a cell with separators; `""`: there is none')
    comment: str | None = Field(None, min_length=1, description="lines of a CSV file that begin with this are left out")
    header: tuple[str, ...] | None = Field(
        None, min_length=1, description="names of the columns, for a CSV file that has no header"
    )
    skip_rows: int = Field(0, ge=0, description="lines of a CSV file before its header")
    time_format: dict[str, str] = Field(
        default_factory=dict,
        description="column = how its times are written: `%d/%m/%Y %H:%M` (strptime), or `epoch_s`, `epoch_ms`, `epoch_us`, "
        "`epoch_ns` for numbers since 1970; left out: ISO 8601 and what can be read in one way only",
    )

    time_from_rows: str | None = Field(
        None,
        description="for a first source without a time: `1000/day` gives its rows times in their order, so many a day (`second`, "
        "`minute`, `hour`, `week`), as the column that `event_time` names; see [own-table.md](../own-table.md)",
    )
    time_start: date = Field(date(2000, 1, 1), description="day (UTC) on which the first row comes under `time_from_rows`")

    @property
    def where(self) -> str:
        """Where its rows come from, in words that hold no credentials."""
        return without_credentials(self.path or self.loader or f"the query on {self.connection}")

    @property
    def row_interval(self) -> timedelta | None:
        """From one row to the next under `time_from_rows`; None without it."""
        found = _RATE.fullmatch(self.time_from_rows or "")
        return timedelta(**{f"{found['unit']}s": 1}) / float(found["rows"]) if found else None

    @field_validator("time_from_rows")
    @classmethod
    def _readable_rate(cls, rate: str | None) -> str | None:
        found = rate is None or _RATE.fullmatch(rate)
        if not found or (rate is not None and float(rate.partition("/")[0]) == 0):
            raise ValueError("write rows by second, minute, hour, day or week, such as 1000/day")
        return rate

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            return codecs.lookup(encoding).name
        except LookupError:
            known = "utf-8, cp1252, latin-1, utf-16 or another that Python knows"
            raise ValueError(f"there is no such encoding; write {known}") from None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("path", "query", "loader") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a source needs exactly one of path, query or loader; got {given or 'none'}")
        if self.query is not None and self.connection is None:
            raise ValueError("a query needs `connection`: the name of the environment variable with the database URL")
        if self.thousands is not None and self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}: a number could be read in two ways")
        return self


class LabelsSpec(SourceSpec):
    """A table of labels that the monitor reads again and again, beside what comes to `/feedback`: a row is an id and its label.

    A later label of an id replaces the earlier one. A query may use `:since`, the newest `time` read so far (UTC), and return
    no older rows.
    """

    id: str | None = Field(None, description="column with the prediction's id (default: `id`, else the spec's own)")
    label: str | None = Field(None, description="column with the label (default: `label`, else the target)")
    time: str | None = Field(
        None,
        description="column with the time that says which prediction of an id is meant, as `event_time` does over HTTP "
        "(default: `event_time`, else the spec's own, where there is one)",
    )
    every: Duration = Field(timedelta(minutes=1), description="how often the monitor looks for new labels")

    @property
    def asks_since(self) -> bool:
        """Whether the query asks for what is newer than `:since`."""
        return self.query is not None and ":since" in self.query

    @model_validator(mode="after")
    def _since_a_time(self) -> Self:
        if self.asks_since and self.time is None:
            raise ValueError("a query with `:since` needs `time`: the column whose newest value the next one begins with")
        return self

    @field_validator("every")
    @classmethod
    def _not_at_once(cls, every: timedelta) -> timedelta:
        if every < timedelta(seconds=1):
            raise ValueError("labels are looked for once a second at most; write 1s or more")
        return every


def refuse_times_of_others(sources: Mapping[str, SourceSpec]) -> None:
    """Raise ValueError where another source than the first one is to make event times of its rows."""
    first, *others = sources
    if timed := [name for name in others if sources[name].time_from_rows is not None]:
        raise ValueError(f"time_from_rows gives times to the rows of the first source, {first!r}; take it out of {timed[0]!r}")


class JoinSpec(FrozenModel):
    """Joins one more source to the first one. Left joins keep every row of the first source."""

    source: str = Field(description="the source to join to the rows so far")
    on: tuple[str, ...] = Field(min_length=1, description="columns with the same name on both sides")
    how: Literal["left", "inner", "left_many", "inner_many"] = Field(
        "left", description="`inner` drops rows without a partner; `_many` lets a row have several, and then repeats it"
    )
    columns: tuple[str, ...] | None = Field(None, min_length=1, description="the columns to take from it (default: all)")
    suffix: str | None = Field(None, min_length=1, description="added to its columns whose names the rows so far have too")
