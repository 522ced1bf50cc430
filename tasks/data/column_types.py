"""Column types: what the text of a column stands for, decided from all of its values and from what the spec uses it for.

A declared use rules: a categorical column and the id stay text from the first byte, a numeric column becomes numbers. Without
a declared kind a column is what nearly all of its values are; the odd ones (`checks.max_odd_values`) are read as null and are
returned with their row and text. Where more are odd, the values do not say what the column is, and the person is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from perennial.errors import ChecksFailed, DataError
from perennial.schema import cast_or_null
from perennial.spec import Kind, ModelSpec, Task, feature_columns
from perennial.spec_sources import SourceSpec
from tasks.data.csv_dialect import number_signs, paste, section
from tasks.data.numbers import NUMBERISH, cleaning, read_numbers
from tasks.data.times import epoch_of, look_like_times, read_clock, read_format, read_times

Use = Literal["event time", "label", "number", "time", "text", "undeclared", "none"]
"""In order of precedence. `undeclared`: a feature that leaves its kind out; `none`: whatever the values are will do."""

_OF_KIND: dict[Kind | None, Use] = {"categorical": "text", "numeric": "number", None: "undeclared"}
_OF_OPERATION: dict[str, Use] = {
    "ratio": "number",
    "bins": "number",
    "log": "number",
    "difference": "undeclared",
    "date_part": "time",
    "cross": "none",
    "function": "none",
}
OF_TARGET: dict[Task, Use] = {"multiclass": "text", "regression": "number", "binary": "label"}

DERIVED = "[derive]"  # what messages call the columns that the spec derives, in the place of a source's name
SHOWN = 3  # odd values shown in a message

ODD_SCHEMA = {"source": pl.String, "column": pl.String, "row": pl.Int64, "place": pl.String, "text": pl.String}
"""The table of odd values: `row` counts from 0 over all files of the source, `place` is what messages call it."""


def column_uses(spec: ModelSpec) -> dict[str, Use]:
    """The use of each column that the spec names; the values decide of a number that is a category too."""
    uses: dict[str, set[Use]] = {}
    for name, feature in spec.features.items():
        use = _OF_KIND[feature.kind] if feature.operation == "column" else _OF_OPERATION[feature.operation]
        for column in feature_columns(name, feature, spec.event_time):
            uses.setdefault(column, set()).add(use)
    for column, check in spec.checks.columns.items():
        if check.min is not None or check.max is not None:
            uses.setdefault(column, {"number"})
    if spec.retrain.known_at is not None:
        uses.setdefault(spec.retrain.known_at, {"time"})
    precedence: tuple[Use, ...] = get_args(Use)
    found = {column: min(several, key=precedence.index) for column, several in uses.items()}
    found |= {column: "none" for column, several in uses.items() if {"text", "number"} <= several}
    identity: dict[str, Use] = {spec.id: "text"} if spec.id else {}
    return {**found, **identity, spec.target: OF_TARGET[spec.task], spec.event_time: "event time"}


@dataclass(frozen=True)
class RawTable:
    """A source as it was read: `untyped` where every cell is text (CSV), and the name and height of each file."""

    frame: pl.DataFrame
    untyped: bool = False
    files: tuple[tuple[str, int], ...] = ()

    def is_cut(self, rows: int | None) -> bool:
        """Whether there may be more where only the first `rows` of each file were read."""
        heights = [height for _, height in self.files] or [self.frame.height]
        return rows is not None and max(heights) >= rows

    def place(self, row: int) -> str:
        """What a message calls a row: counted from 1 below the header, with the file where there are several."""
        below = row
        for file, height in self.files if len(self.files) > 1 else ():
            if below < height:
                return f"row {below + 1} of {file}"
            below -= height
        return f"row {row + 1}"


@dataclass(frozen=True)
class TypedTable:
    """A table with types, and its odd values: the texts that were read as null."""

    frame: pl.DataFrame
    odd: pl.DataFrame


def type_columns(name: str, source: SourceSpec, raw: RawTable, uses: Mapping[str, Use], max_odd: float) -> TypedTable:
    """Give each column of a source its type; raises DataError (ChecksFailed) that names all columns which cannot have one."""
    typed: list[pl.Series] = []
    odd, problems = [pl.DataFrame(schema=ODD_SCHEMA)], []
    for values in raw.frame.iter_columns():
        column = _Column(name, source, raw, values, uses.get(values.name, "none"), int(max_odd * values.len()))
        try:
            typed.append(column.typed())
            odd.append(column.odd_values(typed[-1]))
        except DataError as error:
            problems.append(error)
    if problems:
        asked = [one for one in problems if not isinstance(one, ChecksFailed)]
        raise (DataError if asked else ChecksFailed)("\n".join(map(str, problems)))
    return TypedTable(pl.DataFrame(typed), pl.concat(odd))


@dataclass(frozen=True)
class _Column:
    """One column, what it is used for, and how many of its values may be odd."""

    source_name: str
    source: SourceSpec
    raw: RawTable
    values: pl.Series
    use: Use
    allowed: int

    @property
    def where(self) -> str:
        origin = DERIVED if self.source_name == DERIVED else f"source {self.source_name!r}"
        return f"column {self.values.name!r} of {origin}"

    @property
    def key(self) -> str:
        return f"{section(self.source_name)}.time_format"

    def typed(self) -> pl.Series:
        """The column in its type."""
        form = self.source.time_format.get(self.values.name)
        if form is not None:
            return self._checked(read_format(self.values, form, self.where, self.key), "a time")
        if self.values.dtype != pl.String:
            return self._time_of_number() if self.use == "event time" else self.values
        match self.use:
            case "number":
                truths = self._truths()
                numbers = read_numbers(self.values, self.source) if truths is None or not truths.count() else truths
                return self._checked(numbers, "a number")
            case "time" | "event time":
                times = read_times(self.values, self.where, self.key)
                return self._checked(times if times.count() else self._time_of_number(), "a time")
            case "text":
                return self.values
        return self._inferred() if self.raw.untyped else self.values

    def odd_values(self, typed: pl.Series) -> pl.DataFrame:
        """The texts that became null, with their rows."""
        if typed.null_count() == self.values.null_count():
            return pl.DataFrame(schema=ODD_SCHEMA)
        rows = (typed.is_null() & self.values.is_not_null()).arg_true()
        found = {"source": self.source_name, "column": self.values.name, "row": rows, "place": map(self.raw.place, rows)}
        return pl.DataFrame({**found, "text": self.values.gather(rows).cast(pl.String)}, schema=ODD_SCHEMA)

    def _inferred(self) -> pl.Series:
        """What nearly all values are: numbers, truth values, times; text where they are none of these."""
        numbers = read_numbers(self.values, self.source)
        allowed = 0 if self.use == "label" else self.allowed
        if numbers.count() and self.values.count() - numbers.count() <= allowed:
            return self._unless_code(numbers)
        for other in (self._truths(), self._times()):
            if other is not None and other.count() and self.values.count() - other.count() <= allowed:
                return other
        if self.use == "undeclared" and self.values.str.contains(NUMBERISH).sum() > self.values.count() / 2:
            raise DataError(f"{self.where} has {numbers.count():,} numbers and {self._shown(numbers)}: {self._ask_kind(numbers)}")
        return self.values

    def _unless_code(self, numbers: pl.Series) -> pl.Series:
        """Numbers, unless digits would be lost: leading zeros, and whole numbers too long for 64 bits."""
        zeros = self.values.str.contains(r"^[+-]?0\d")
        if zeros.any():
            if self.use == "undeclared":
                row = zeros.arg_true()[0]
                example = f"{self.raw.place(row)}: {self.values[row]!r}"
                raise DataError(f"{self.where} has leading zeros ({example}), which numbers lose: {self._ask_kind(None)}")
            return self.values
        too_long = numbers.dtype == pl.Float64 and self.use == "none" and bool((numbers.abs() >= 2.0**63).any())
        return self.values if too_long and not self.values.str.contains(r"[.eE]").any() else numbers

    def _truths(self) -> pl.Series | None:
        lowered = self.values.head(1_000).str.to_lowercase().drop_nulls()
        return cast_or_null(self.values, "bool") if lowered.is_in(["true", "false"]).any() else None

    def _times(self) -> pl.Series | None:
        if self.use == "label" or not look_like_times(self.values):
            return read_clock(self.values)
        try:
            return read_times(self.values, self.where, self.key)
        except DataError:
            if self.use == "undeclared":
                raise
            return None  # of a column that no feature reads it does not matter which day is meant

    def _time_of_number(self) -> pl.Series:
        """The column as it is; raises DataError when it counts from 1970, for only the person knows whether it does."""
        texts = self.values.dtype == pl.String
        numbers = read_numbers(self.values, self.source) if texts else self.values
        found = epoch_of(numbers) if numbers.dtype.is_numeric() else None
        if found is None:
            return self.values
        form, moment = found
        fix = f'write {self.key} = {{ "{self.values.name}" = "{form}" }} if the first is {moment:%Y-%m-%d %H:%M:%S}'
        raise DataError(f"{self.where} has numbers where times are expected: {fix}")

    def _checked(self, typed: pl.Series, what: str) -> pl.Series:
        """The typed column; raises ChecksFailed when too many values were odd. Rows without an event time go to quarantine."""
        odd = typed.null_count() - self.values.null_count()
        if odd <= self.allowed or self.use == "event time":
            return typed
        limit = f"checks.max_odd_values lets {self.allowed:,} of {self.values.len():,} rows through"
        raise ChecksFailed(f"{self.where}: {self._shown(typed)}, where {what} is expected; {limit}{self._hint(typed)}")

    def _shown(self, typed: pl.Series) -> str:
        odd = self.odd_values(typed)
        shown = odd.unique("text", maintain_order=True).head(SHOWN).select("place", "text").rows()
        examples = ", ".join(f"{place}: {text!r:.80}" for place, text in shown)
        return f"{odd.height:,} other {'text' if odd.height == 1 else 'texts'} ({examples})"

    def _ask_kind(self, numbers: pl.Series | None) -> str:
        hint = self._hint(numbers) if numbers is not None else ""
        return f'say what it is, kind = "numeric" or kind = "categorical", in the feature that reads it{hint}'

    def _hint(self, typed: pl.Series) -> str:
        """How the odd values may be read: with the signs of their numbers, or as null."""
        texts = self.odd_values(typed)["text"].unique(maintain_order=True)
        if not self.raw.untyped:
            return ""
        if signs := number_signs(texts.head(1_000).to_list(), self.source):
            return paste(self.source_name, signs)
        if cleaned := cleaning(self.values.name, texts):
            return f"; to make a number of it, write derive.{cleaned}"
        few = [text for text in texts.head(SHOWN + 1).to_list() if not any(character.isdigit() for character in text)]
        return paste(self.source_name, {"nulls": [*self.source.nulls, *few]}) if 0 < len(few) <= SHOWN else ""
