"""Times written as text, and numbers that count from 1970: the moment each one is, where it can be read in one way only.

Without a format, ISO 8601 and dates with the month's name are read as they are. Of `01/02/2019` the order of day and month is
taken from the other values of the column: a 13 decides it. Where nothing decides it, that is an error that shows both readings.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from perennial.errors import DataError

EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": 0.001}  # how many microseconds one is
SAMPLE = 500  # values on which it is tried which formats a column has; the others are tried on what these leave over
STRAY = 0.01  # share of a column's values up to which dates in another order than ISO 8601 are stray, and are not read at all

_CLOCKS = ("", " %H:%M:%S%.f", "T%H:%M:%S%.f", " %H:%M", "T%H:%M", " %I:%M:%S %p", " %I:%M %p")
_ISO = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d")
_COMPACT = ("%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S%#z")
_ZONES = ("", "%#z", " %#z", " UTC")
_NAMED = ("%d %B %Y", "%d-%B-%Y", "%B %d, %Y", "%B %d %Y", "%a, %d %B %Y", "%a %B %d %Y")
_ORDERED = r"^\s*(?P<a>\d{1,2})(?P<sign>[/.-])(?P<b>\d{1,2})[/.-](?P<year>\d{4}|\d{2})(?:[ T]|\s*$)"
_LOOKS_LIKE = (
    r"^\s*\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|^\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}"
    r"|^\s*(?:[A-Za-z]{3},? )?\d{1,2}[ -][A-Za-z]{3}|^\s*[A-Za-z]{3,9} \d{1,2},? \d"
)


def look_like_times(texts: pl.Series) -> bool:
    """Whether most of the first values begin as a date does."""
    sample = texts.drop_nulls().head(SAMPLE)
    return sample.len() > 0 and sample.str.contains(_LOOKS_LIKE).sum() > sample.len() / 2


def read_times(texts: pl.Series, where: str, key: str) -> pl.Series:
    """Moments of texts: Date where none has a time of day, Datetime(us), in UTC where a zone is given; null where it is no time.

    `where` is what messages call the column, `key` the key that can say its format. Raises DataError where the order of day
    and month cannot be told.
    """
    # Neither is 01/02/19 a day of the year 1, nor 1551052800000 a day of the year 1551.
    years_first = texts.str.contains(r"^(?:\d{4}\D|\d{8}(?:\D|$)|\d{14}$)")
    iso = texts if years_first.all() else _only(texts, years_first)
    times, used = _by_formats(iso, [*_formats(_ISO), *_COMPACT])
    left = (times.is_null() & texts.is_not_null()).arg_true()
    if left.len():
        others = texts.gather(left)
        dates = (*_NAMED, *_ordered_dates(others, texts.count(), where, key))
        found, more = _by_formats(_only(others, others.str.contains(r"\d{4}")), _formats(dates))
        times, used = times.scatter(left, found), [*used, *more]
    if any("%#z" in one or "UTC" in one for one in used):
        return times.dt.replace_time_zone("UTC")
    return times if any("%H" in one or "%I" in one for one in used) or not used else times.cast(pl.Date)


def read_format(values: pl.Series, form: str, where: str, key: str) -> pl.Series:
    """Moments of values in the format that the spec gives; null where a value is not written in it."""
    if values.dtype.is_temporal():
        raise DataError(f"{where} holds times already ({values.dtype}): take it out of {key}")
    if form in EPOCHS:
        numbers = values.cast(pl.Float64, strict=False) if values.dtype == pl.String else values
        whole = numbers.cast(pl.Int64, strict=False) if form != "epoch_ns" and not numbers.dtype.is_float() else numbers
        return (whole * EPOCHS[form]).cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"), strict=False)
    chrono = form.replace(".%f", "%.f").replace("%f", "%6f").replace("%z", "%#z")  # as Python means them
    try:
        times = _strptime(values.cast(pl.String), chrono)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{key} of {where}: {form!r} is no format of times: {error}") from error
    if values.len() > values.null_count() and times.null_count() == values.len():
        example = values.drop_nulls()[0]
        raise DataError(f"{where} has no value that is written as {key} says: {form!r} does not read {example!r}")
    return times.dt.replace_time_zone("UTC") if "%#z" in chrono else times


def times_of_rows(count: int, start: date, interval: timedelta) -> pl.Series:
    """Moments of so many rows in their order: the first at midnight (UTC) of `start`, the others an interval apart."""
    since = datetime.combine(start, time(), UTC)
    steps = (pl.int_range(count, eager=True).cast(pl.Float64) * (interval / timedelta(microseconds=1))).round().cast(pl.Int64)
    return steps.cast(pl.Duration("us")) + since


def read_clock(texts: pl.Series) -> pl.Series | None:
    """Times of day such as 08:30:00, which belong to no date; None where the values do not look like any."""
    looks = texts.drop_nulls().head(SAMPLE).str.contains(r"^\d{1,2}:\d{2}:\d{2}")
    return texts.str.to_time("%H:%M:%S%.f", strict=False) if looks.any() else None


def epoch_of(numbers: pl.Series) -> tuple[str, datetime] | None:
    """The count from 1970 that makes moments of our time of whole numbers, and the first of them; None where none does."""
    known = numbers.drop_nulls()
    for form, factor in EPOCHS.items():
        if known.len() and (known * factor).is_between(3 * 10**14, 5 * 10**15).all():  # 1979 to 2128
            return form, read_format(known.head(1), form, "", "")[0]
    return None


def _only(texts: pl.Series, chosen: pl.Series) -> pl.Series:
    """The chosen texts, null in the place of the others."""
    return texts.to_frame().select(pl.when(chosen).then(pl.first())).to_series()


def _formats(dates: Iterable[str]) -> list[str]:
    return [f"{date}{clock}{zone}" for date in dates for clock in _CLOCKS for zone in (_ZONES if clock else ("",))]


def _by_formats(texts: pl.Series, formats: list[str]) -> tuple[pl.Series, list[str]]:
    """What the formats read, and those that read something; each is tried on what is left, the likeliest first."""
    times, used, known = pl.Series(texts.name, [None] * texts.len(), dtype=pl.Datetime("us")), [], texts.drop_nulls()
    sample = known.gather_every(max(1, known.len() // SAMPLE))
    for form in sorted(formats, key=lambda form: -_strptime(sample, form).count()):
        left = (times.is_null() & texts.is_not_null()).arg_true()
        if left.is_empty():
            break
        found = _strptime(texts.gather(left), form)
        if found.null_count() < found.len():
            used.append(form)
            times = found if left.len() == texts.len() else times.scatter(left, found)
    return times, used


def _strptime(texts: pl.Series, form: str) -> pl.Series:
    """Naive moments, in UTC where the format has a zone; null where a text is not written in it."""
    zone = "UTC" if "%#z" in form else None
    return texts.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False).dt.replace_time_zone(None)


def _ordered_dates(texts: pl.Series, known: int, where: str, key: str) -> Iterable[str]:
    """Formats of dates such as 13/02/2019, in the order of day and month that the values show."""
    parts = texts.drop_nulls().to_frame("text").with_columns(pl.col("text").str.extract_groups(_ORDERED).alias("parts"))
    dates = parts.unnest("parts").drop_nulls("a").with_columns(pl.col("a", "b").cast(pl.Int64))
    if dates.height <= STRAY * known:
        return ()
    days_first = dates.filter((pl.col("a") > 12) & (pl.col("b") <= 12))
    months_first = dates.filter((pl.col("b") > 12) & (pl.col("a") <= 12))
    signs = dates["sign"].unique().to_list()
    two_digits = dates.filter(pl.col("year").str.len_chars() == 2)
    if two_digits.height:
        example = two_digits["text"][0]
        raise DataError(f"{where} has years of two digits, such as {example!r}: {_ask(key, two_digits, texts.name)}")
    if days_first.height and months_first.height:
        shown = f"{days_first['text'][0]!r} and {months_first['text'][0]!r}"
        raise DataError(f"{where} holds both {shown}: day and month come in two orders; {_ask(key, dates, texts.name)}")
    unequal = dates.filter(pl.col("a") != pl.col("b")).unique("text", maintain_order=True)
    if not days_first.height and not months_first.height and not unequal.is_empty():
        shown = " and ".join(_both_readings(*row) for row in unequal.select("text", "a", "b", "year").head(2).rows())
        raise DataError(f"{where} can be read in two ways: {shown}; no value shows which; {_ask(key, unequal, texts.name)}")
    return [f"%d{sign}%m{sign}%Y" if days_first.height else f"%m{sign}%d{sign}%Y" for sign in signs]


def _both_readings(text: str, first: int, second: int, year: str) -> str:
    one, other = (datetime(int(year), month, day) for month, day in ((first, second), (second, first)))  # noqa: DTZ001 - a date
    return f"{text!r} is {one.day} {one:%B %Y} or {other.day} {other:%B %Y}"


def _ask(key: str, dates: pl.DataFrame, column: str) -> str:
    """The two lines between which a person chooses."""
    text, sign, year = dates.row(0, named=True)["text"], dates["sign"][0], "%y" if len(dates["year"][0]) == 2 else "%Y"
    clock = re.sub(r"^\s*[\d/.-]+", "", text)
    known = next((one for one in _CLOCKS if one and _strptime(pl.Series([f"2000-01-01{clock}"]), f"%Y-%m-%d{one}")[0]), "")
    orders, known = (f"%m{sign}%d{sign}{year}", f"%d{sign}%m{sign}{year}"), known.replace("%.f", "")
    one, other = (f'{key} = {{ "{column}" = "{order}{known}" }}' for order in orders)
    return f"write {one} if the month comes first, or {other}"
