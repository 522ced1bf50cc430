"""Validate: what must hold before a table may train a model; bad rows go to quarantine, too many of them stop the training.

A rule is a polars expression that is true for a bad row; all of them are judged in one pass and reported together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from perennial.base import FrozenModel
from perennial.errors import ChecksFailed
from perennial.labels import LabelCodec, codec_of, fit_texts, similar_class
from perennial.schema import unreadable
from perennial.spec import ColumnCheck, ModelSpec
from perennial.value_types import OLDEST
from tasks.data.columns import ColumnSummary, summarise_columns
from tasks.data.datasets import SHORT, Dataset, write_parquet
from tasks.data.joins import JoinMatch
from tasks.job import Job
from tasks.task_defaults import local_task

EXAMPLES = 3  # bad values shown per problem
FUTURE = timedelta(days=1)  # that an event time may lie ahead of the clock: time zones get mixed up


class Problem(FrozenModel):
    """One thing wrong with one column: in how many rows, and some of the values."""

    column: str
    what: str
    rows: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = f", such as {', '.join(self.examples)}" if self.examples else ""
        return f"{self.column}: {self.what} in {self.rows:,} rows{shown}" if self.rows else f"{self.column}: {self.what}"


class Checks(FrozenModel):
    """What validation found: `problems` were survived, the bad rows are in `quarantine`.

    `repeated` good rows are as another in all that the spec reads, where no id tells rows apart; they stay.
    `odd` are texts that were read as null, all of them in the file `odd_values`; `joins` says how many rows found a partner,
    `columns` what every column holds.
    """

    rows: int
    bad_rows: int
    unlabelled: int
    repeated: int = 0
    problems: tuple[Problem, ...]
    quarantine: str | None
    label_texts: tuple[str, ...] = ()
    odd: tuple[Problem, ...] = ()
    odd_values: str | None = None
    joins: tuple[JoinMatch, ...] = ()
    columns: tuple[ColumnSummary, ...] = ()


@dataclass(frozen=True)
class Rule:
    """True of `bad` marks a row as bad; a null of it does not."""

    column: str
    what: str
    bad: pl.Expr


@local_task("validate")
def validate(job: Job, dataset: Dataset) -> tuple[pl.DataFrame, Checks]:
    """Good rows of a dataset with their labels as they are stored, and what was found; bad rows go to quarantine."""
    rows, checks = check_dataset(job, dataset)
    columns = summarise_columns(dataset.frame, job.spec, dataset.odd, dataset.unread)
    found: dict[str, object] = {"joins": dataset.joins, "columns": columns}
    if dataset.odd is not None and not dataset.odd.is_empty():
        file = _quarantine_file(job, dataset)
        odd_file = file.with_name(f"{file.stem}-odd-values.parquet")
        write_parquet(dataset.odd, odd_file)
        found |= {"odd": tuple(odd_problems(dataset.odd)), "odd_values": str(odd_file)}
    return rows, checks.model_copy(update=found)


def check_dataset(job: Job, dataset: Dataset) -> tuple[pl.DataFrame, Checks]:
    """`validate` without an account of every column, for a table that was validated before."""
    return check_table(dataset.frame, job.spec, _quarantine_file(job, dataset), job.now, dataset.unread)


def _quarantine_file(job: Job, dataset: Dataset) -> Path:
    return job.home / "quarantine" / f"{dataset.manifest.fingerprint[:SHORT]}.parquet"


def odd_problems(odd: pl.DataFrame) -> Iterator[Problem]:
    """The odd values of each column, counted, with some of them."""
    for (source, column), one in odd.partition_by("source", "column", maintain_order=True, as_dict=True).items():
        what = f"is read as null, unlike the other values in source {source!r},"
        shown = one.select("place", "text").head(EXAMPLES).rows()
        yield Problem(column=column, what=what, rows=one.height, examples=tuple(f"{place}: {text!r}" for place, text in shown))


def check_table(
    frame: pl.DataFrame, spec: ModelSpec, quarantine: Path | None, now: datetime, unread: pl.Series | None = None
) -> tuple[pl.DataFrame, Checks]:
    """Judge a table sorted in time; raises ChecksFailed listing every bad column with counts and examples.

    `unread` has the texts of event times that could not be read, as the quarantine has them; without its file none is written.
    """
    _refuse(list(_unusable_columns(frame, spec)), None)
    label_texts = fit_texts(spec, frame[spec.target])
    codec = codec_of(spec, label_texts)
    rules = list(_rules(frame, spec, codec, now))
    verdicts = frame.select(rule.bad.fill_null(value=False).alias(str(i)) for i, rule in enumerate(rules))
    bad = verdicts.select(pl.any_horizontal(pl.all())).to_series()
    times = frame[spec.event_time]
    known = times if unread is None or not unread.count() else unread.fill_null(times.cast(pl.String))
    told = frame.with_columns(known.alias(times.name))
    found = [_problem(told, rule, verdicts[str(i)]) for i, rule in enumerate(rules) if verdicts[str(i)].any()]
    good = frame.filter(~bad)
    labelled = good.with_columns(codec.parse_column(good[spec.target])).drop_nulls(spec.target)
    checks = Checks(
        rows=frame.height,
        bad_rows=int(bad.sum()),
        unlabelled=good.height - labelled.height,
        repeated=_repeated(good, spec),
        problems=(*found, *_similar_classes(labelled, spec)),
        quarantine=_quarantine(told, rules, verdicts, bad, quarantine),
        label_texts=label_texts,
    )
    too_many = checks.bad_rows > spec.checks.max_bad_rows * frame.height
    _refuse([*_broken(frame, good, labelled, spec), *(found if too_many else [])], checks.quarantine)
    return labelled, checks


def _repeated(good: pl.DataFrame, spec: ModelSpec) -> int:
    """By the hash of each row: a frame of distinct rows would be the table once more."""
    if spec.id:
        return 0
    read = good.select({spec.event_time, spec.target, *spec.inputs})
    return read.height - read.hash_rows().n_unique()


def _refuse(problems: list[Problem], quarantine: str | None) -> None:
    if not problems:
        return
    lines = "\n".join(f"  {problem}" for problem in problems)
    hint = f"\nthe bad rows are in {quarantine}" if quarantine else ""
    raise ChecksFailed(f"the data does not keep its contract; correct it, or the spec:\n{lines}{hint}")


def _unusable_columns(frame: pl.DataFrame, spec: ModelSpec) -> Iterator[Problem]:
    identity = (spec.id,) if spec.id else ()
    for column in dict.fromkeys((*identity, spec.event_time, spec.target, *spec.inputs, *spec.checks.columns)):
        if column not in frame.columns:
            near = get_close_matches(column, frame.columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(frame.columns)}"
            yield Problem(column=column, what=f"is not in the table; {hint}", rows=0)
    for column in dict.fromkeys((*identity, *spec.inputs, *spec.checks.columns, *spec.slices)):
        if column in frame.columns and (why := unreadable(column, frame.schema[column])) is not None:
            yield Problem(column=column, what=why, rows=0)


def _similar_classes(labelled: pl.DataFrame, spec: ModelSpec) -> Iterator[Problem]:
    """Classes that differ in case, surrounding blanks or `.0` only: probably one class in two spellings; they are kept apart."""
    if spec.task == "multiclass" and not spec.classes:
        names = labelled[spec.target].unique().sort().to_list()
        for place, name in enumerate(names):
            if other := similar_class(name, names[:place]):
                what = f"has the classes {other!r} and {name!r}: probably one in two spellings; `classes` says which there are"
                yield Problem(column=spec.target, what=what, rows=int((labelled[spec.target] == name).sum()))


def _rules(frame: pl.DataFrame, spec: ModelSpec, codec: LabelCodec, now: datetime) -> Iterator[Rule]:
    time = pl.col(spec.event_time)
    yield Rule(spec.event_time, "has no readable time", time.is_null())
    yield Rule(spec.event_time, f"lies after {now + FUTURE:%Y-%m-%d %H:%M}, in the future", time > now + FUTURE)
    yield Rule(spec.event_time, f"lies before {OLDEST:%Y}", time < OLDEST)
    if spec.id:
        yield Rule(spec.id, "is null", pl.col(spec.id).is_null())
        yield Rule(spec.id, "repeats an earlier row's", pl.col(spec.id).is_not_null() & ~pl.col(spec.id).is_first_distinct())
    hint = "; of two other values, `positive` names the true one" if spec.task == "binary" and not codec.texts else ""
    yield Rule(spec.target, f"is not {codec.expected}{hint}", pl.lit(codec.is_refused(frame[spec.target])))
    for column in spec.inputs:
        if frame.schema[column].is_float():
            yield Rule(column, "is infinite", pl.col(column).is_infinite())
    for column, check in spec.checks.columns.items():
        yield from _column_rules(column, check, frame.schema[column])


def _column_rules(column: str, check: ColumnCheck, dtype: pl.DataType) -> Iterator[Rule]:
    value = pl.col(column) if dtype.is_numeric() else pl.col(column).cast(pl.Float64, strict=False)
    if check.min is not None:
        yield Rule(column, f"is below {check.min:g}", value < check.min)
    if check.max is not None:
        yield Rule(column, f"is above {check.max:g}", value > check.max)
    if check.allowed is not None:
        yield Rule(column, f"is none of {', '.join(check.allowed)}", ~pl.col(column).cast(pl.String).is_in(list(check.allowed)))


def _problem(frame: pl.DataFrame, rule: Rule, bad: pl.Series) -> Problem:
    values = frame[rule.column].filter(bad)
    shown = values.drop_nulls().unique(maintain_order=True).head(EXAMPLES)
    return Problem(column=rule.column, what=rule.what, rows=values.len(), examples=tuple(map(repr, shown.to_list())))


def _quarantine(frame: pl.DataFrame, rules: list[Rule], verdicts: pl.DataFrame, bad: pl.Series, file: Path | None) -> str | None:
    """Write the bad rows as they came, and in `_reasons` everything that is wrong with each; where, if there are any."""
    if file is None or not bad.any():
        return None
    reasons = [pl.when(verdicts[str(i)].filter(bad)).then(pl.lit(f"{rule.column} {rule.what}")) for i, rule in enumerate(rules)]
    write_parquet(frame.filter(bad).with_columns(pl.concat_list(reasons).list.drop_nulls().alias("_reasons")), file)
    return str(file)


def _broken(frame: pl.DataFrame, good: pl.DataFrame, labelled: pl.DataFrame, spec: ModelSpec) -> Iterator[Problem]:
    """What no quarantine can heal: columns of nulls, too few rows, a target that says nothing."""
    for column, check in spec.checks.columns.items():
        nulls = frame[column].null_count()
        if nulls > check.max_null_rate * frame.height:
            what = f"is null ({nulls / frame.height:.1%}; the spec lets {check.max_null_rate:.1%} through)"
            yield Problem(column=column, what=what, rows=nulls)
    if labelled.height < spec.checks.min_rows:
        known = f"is known for only {labelled.height:,} of {good.height:,} good rows"
        yield Problem(column=spec.target, what=f"{known}; checks.min_rows asks for {spec.checks.min_rows:,}", rows=0)
    elif labelled[spec.target].n_unique() < 2:
        what = f"is always {good[spec.target].drop_nulls()[0]!r}: there is nothing to learn"
        yield Problem(column=spec.target, what=what, rows=0)
