"""The layout: where each cell of an ordinary row goes, worked out once per model, so that reading a row looks nothing up.

Cells stand in the order of `columns`: numbers, texts, then the rest. Features that are such a column as it is have a
place there; the others are computed. It serves `service.rows` and `service.table`, which take what is in order and
return None for what needs a closer look; then `service.requests` and `service.encoding` judge, and name what is wrong.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from perennial.features import CompiledFeatures
from perennial.model import Model
from perennial.record import Scalar
from perennial.value_types import Dtype, parse_time
from service.requests import MAX_ID

NAN = math.nan

Keys = Sequence[tuple[str, bool]]
"""Names under which a row may carry something, and whether that name is a column of the model too."""


POOL = 256
"""Ids made at once: the operating system is asked for randomness once for all of them."""

_POOL: list[str] = []


class OddError(Exception):
    """A row that needs a closer look; never leaves the readers."""


class Layout:
    """Compiled from one model; shared by all requests it answers."""

    def __init__(self, model: Model) -> None:
        schema, features = model.card.schema_, model.card.features
        self.model = model
        self.floats = [name for name, dtype in schema.dtypes.items() if dtype == "float"]
        self.texts = [name for name, dtype in schema.dtypes.items() if dtype == "string"]
        self.others: list[tuple[str, Dtype]] = [
            (name, dtype) for name, dtype in schema.dtypes.items() if dtype not in ("float", "string")
        ]
        self.columns = (*self.floats, *self.texts, *(name for name, _ in self.others))
        self.get_floats, self.get_texts = getter(self.floats), getter(self.texts)
        self.ids: Keys = [(key, key in schema.names) for key in dict.fromkeys(("id", schema.id or "id"))]
        self.times: Keys = [(key, key in schema.names) for key in dict.fromkeys(("event_time", schema.event_time))]
        self.event_time = features.event_time
        self._place_features()

    def _place_features(self) -> None:
        features = self.model.card.features
        sources = {name: self._source(name) for name in features.names}
        coded = [name for name in features.names if sources[name] in self.texts]
        self.computed = [name for name in features.names if sources[name] is None]
        self.numeric = {name: self.floats.index(str(source)) for name, source in sources.items() if source in self.floats}
        self.sources = {name: str(sources[name]) for name in coded}
        self.dictionaries = [_dictionary(features.categories[name]) for name in coded]
        self.coded_texts = [self.texts.index(self.sources[name]) for name in coded]
        self.get_coded = getter(self.coded_texts)
        self.steps = [self.model.encoder.steps[name] for name in self.computed]
        made = [*coded, *self.computed]
        self.order = [
            len(self.floats) + made.index(name) if name in made else self.floats.index(str(sources[name]))
            for name in features.names
        ]
        self.arrange = getter(self.order)
        self.rest = _only(self.model.compiled, self.computed)

    def _source(self, name: str) -> str | None:
        """The column that a feature is as it is; None for one that is computed."""
        features = self.model.card.features
        spec = features.specs[name]
        column = (*spec.of_columns, name)[0]
        fits = self.floats if features.kinds[name] == "numeric" else self.texts
        return column if spec.operation == "column" and column in fits else None


def getter(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """`itemgetter` that gives a tuple however many keys there are."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda given: tuple([given[key] for key in keys])


def take(row: dict[str, Any], keys: Keys) -> Any:
    """The first value that is not null under these keys; those that are no columns leave the row."""
    found = None
    for key, stays in keys:
        value = row.get(key) if stays else row.pop(key, None)
        if found is None:
            found = value
    return found


def id_of(given: object) -> str:
    """The id of a row, made here when the client gave none."""
    if given is None:
        if not _POOL:
            _POOL.extend(new_ids(POOL))
        return _POOL.pop()
    name = str(given) if type(given) is int else given
    if type(name) is str and 0 < len(name) <= MAX_ID:
        return name
    raise OddError


def new_ids(count: int) -> tuple[str, ...]:
    """Ids that nobody has used."""
    digits = os.urandom(16 * count).hex()
    return tuple([digits[start : start + 32] for start in range(0, len(digits), 32)])


def time_of(given: object, now: datetime) -> datetime:
    """The event time of a row, `now` when the client gave none."""
    if given is None:
        return now
    if type(given) is not str:
        raise OddError
    return parse_time(given)


def as_logged(value: Any) -> Scalar:
    """A cell as the log keeps it: a time as text, everything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value


def _dictionary(categories: Sequence[str]) -> Mapping[str, float]:
    return {category: float(code) for code, category in enumerate(categories)}


def _only(compiled: CompiledFeatures, names: Sequence[str]) -> CompiledFeatures:
    expressions = dict(zip(compiled.features.names, compiled.expressions, strict=True))
    categories = {name: known for name, known in compiled.features.categories.items() if name in names}
    part = compiled.features.model_copy(update={"names": tuple(names), "categories": categories})
    return CompiledFeatures(part, tuple(expressions[name] for name in names))
