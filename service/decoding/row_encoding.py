"""Row encoding: checked rows of one model version as input of its estimator, with what the metrics count.

Features that are a column as it is are picked by position; the others are computed. Up to FEW rows are encoded one by one with
the scalar row encoder; more, column by column with numpy and, where features are computed, polars, so that a row costs no Python
of its own. A property test holds the two equal (`tests/service/decoding/test_row_contract.py`).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl

from perennial.features import CompiledFeatures
from perennial.model import Model
from perennial.schema import POLARS
from perennial.value_types import Dtype

FEW = 8  # up to this many rows are encoded, and scored, one by one: past it, whole columns cost less

NAN = math.nan

Cells = tuple[Any, ...]
_code: Callable[[Any, Any], Any] = dict.get
_NONE: Mapping[str, int] = {}


class EncodedRows(msgspec.Struct, frozen=True, gc=False):
    """`vectors` has one encoded row each while they are few, else `matrix` is (n, k). NaN stands for null and unknown.

    `unknown` and `nulls` count rows by feature, without zeros.
    """

    vectors: Sequence[Sequence[float]] = ()
    matrix: "np.ndarray[Any, np.dtype[np.float64]] | None" = None
    unknown: Mapping[str, int] = _NONE
    nulls: Mapping[str, int] = _NONE

    def to_matrix(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.array(self.vectors, dtype=np.float64) if self.matrix is None else self.matrix


class _TableNeeded(Exception):
    """A computed category has no code: only a table tells whether it is null or unknown."""


class RowEncoding:
    """Where each feature of a model comes from; `dtypes` names the columns in the order in which rows have them."""

    def __init__(self, model: Model, dtypes: Mapping[str, Dtype]) -> None:
        self._model = model
        self._features = features = model.card.features
        self._dtypes = dtypes
        self._columns = tuple(dtypes)
        sources = {name: self._source(name) for name in features.names}
        self._numeric = {name: place for name, place in sources.items() if place is not None and not self._is_coded(name)}
        self._coded = {name: place for name, place in sources.items() if place is not None and self._is_coded(name)}
        self._computed = [name for name, place in sources.items() if place is None]
        self._codes = [{text: float(code) for code, text in enumerate(features.categories[name])} for name in self._coded]
        self._pick_numbers, self._pick_texts = _picker(self._numeric.values()), _picker(self._coded.values())
        self._steps = [model.encoder[name] for name in self._computed]
        self._computed_features = _restrict(model.compiled, self._computed)
        given = [*self._numeric, *self._coded, *self._computed]
        self._order = [given.index(name) for name in features.names]
        self._arrange = _picker(self._order)

    def encode(self, rows: Sequence[Cells], times: Sequence[datetime]) -> EncodedRows:
        """Encode checked rows; what they hold beyond the columns is ignored."""
        if len(rows) <= FEW:
            try:
                return self._encode_each(rows, times)
            except _TableNeeded:
                pass
        return self._encode_columns(list(zip(*rows, strict=True)), times)

    def _is_coded(self, name: str) -> bool:
        return self._features.kinds[name] == "categorical"

    def _source(self, name: str) -> int | None:
        """Place of the column that a feature is as it is; None for one that is computed."""
        spec, column = self._features.specs[name], (*self._features.specs[name].of_columns, name)[0]
        fits = "string" if self._is_coded(name) else "float"
        return self._columns.index(column) if spec.operation == "column" and self._dtypes.get(column) == fits else None

    def _encode_each(self, rows: Sequence[Cells], times: Sequence[datetime]) -> EncodedRows:
        vectors = [self._vector(cells, time) for cells, time in zip(rows, times, strict=True)]
        computed = bool(self._computed)
        incomplete = [at for at, one in enumerate(vectors) if None in one or (computed and not math.isfinite(sum(one)))]
        if not incomplete:
            return EncodedRows(vectors)
        unknown: Counter[str] = Counter()
        nulls: Counter[str] = Counter()
        for place in incomplete:
            self._count_missing(vectors[place], rows[place], unknown, nulls)
            vectors[place] = tuple([NAN if value is None else value for value in vectors[place]])
        return EncodedRows(vectors, None, unknown, nulls)

    def _vector(self, cells: Cells, time: datetime) -> tuple[Any, ...]:
        """One row in the order of the features; None for a column that is null or a category that is unknown."""
        # A text's code in one go; a null's is None, because no dictionary has None as a key.
        codes = tuple(map(_code, self._codes, self._pick_texts(cells)))
        if not self._steps:
            return self._arrange(self._pick_numbers(cells) + codes)
        row = dict(zip(self._columns, cells, strict=False))
        row[self._features.event_time] = time
        return self._arrange(self._pick_numbers(cells) + codes + tuple([step(row) for step in self._steps]))

    def _count_missing(self, vector: Cells, cells: Cells, unknown: Counter[str], nulls: Counter[str]) -> None:
        for name, value in zip(self._features.names, vector, strict=True):
            if value is not None and not math.isnan(value):
                continue
            if name in self._coded and cells[self._coded[name]] is not None:
                unknown[name] += 1
            elif name in self._computed and self._is_coded(name):
                raise _TableNeeded
            else:
                nulls[name] += 1

    def _encode_columns(self, cells: Sequence[Cells], times: Sequence[datetime]) -> EncodedRows:
        numbers = [np.array(cells[place], dtype=np.float64) for place in self._numeric.values()]  # None becomes NaN
        codes = [tuple(map(known.get, cells[place])) for known, place in zip(self._codes, self._coded.values(), strict=True)]
        absent = {name: cells[place].count(None) for name, place in self._coded.items()}
        unknown = {name: coded.count(None) - absent[name] for name, coded in zip(self._coded, codes, strict=True)}
        nulls = absent | {name: int(np.isnan(one).sum()) for name, one in zip(self._numeric, numbers, strict=True)}
        parts = [*numbers, *(np.array(coded, dtype=np.float64) for coded in codes)]
        if self._computed:
            table = self._computed_features.table(self._frame(cells, times))
            parts += list(self._computed_features.codes(table).T)
            unknown |= self._computed_features.count_unknown(table)
            nulls |= self._computed_features.count_nulls(table)
        matrix = np.column_stack([parts[place] for place in self._order]) if parts else np.empty((len(times), 0))
        return EncodedRows((), matrix, _positive(unknown), _positive(nulls))

    def _frame(self, cells: Sequence[Cells], times: Sequence[datetime]) -> pl.DataFrame:
        columns = zip(self._dtypes.items(), cells, strict=False)
        series = [pl.Series(name, values, dtype=POLARS[dtype]) for (name, dtype), values in columns]
        return pl.DataFrame([*series, pl.Series(self._features.event_time, times, dtype=POLARS["datetime"])])


def _picker(places: "Any") -> Callable[[Cells], Cells]:
    """`itemgetter` that gives a tuple however many places there are."""
    places = tuple(places)
    if len(places) > 1:
        return itemgetter(*places)
    return lambda cells: tuple([cells[place] for place in places])


def _restrict(compiled: CompiledFeatures, names: Sequence[str]) -> CompiledFeatures:
    expressions = dict(zip(compiled.features.names, compiled.expressions, strict=True))
    categories = {name: known for name, known in compiled.features.categories.items() if name in names}
    part = compiled.features.model_copy(update={"names": tuple(names), "categories": categories})
    return CompiledFeatures(part, tuple(expressions[name] for name in names))


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
