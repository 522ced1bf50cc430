"""Requests: from the bytes a client sent to checked values, or an error that names row, column, value and what was expected.

Only the envelope is judged here (ids, times, counts, labels); the features of a row are judged by the schema of the
model that will answer. Checked by hand: a schema library costs more per row than the prediction.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import Field

from perennial.base import FrozenModel
from perennial.errors import RequestError
from perennial.labels import LabelCodec
from perennial.record import Label, LabelBatch
from perennial.spec import Task
from service.refusal import too_large
from service.shape import read_json

if TYPE_CHECKING:
    from perennial.schema import Schema

MAX_ID = 256
"""Characters of an id; it is a key in the archive, not a document."""


class PredictRequest(FrozenModel):
    """Rows to predict or to explain."""

    instances: tuple[dict[str, Any], ...] = Field(
        min_length=1,
        description="one object per row: the model's inputs, and optionally `id` and `event_time` (ISO 8601; UTC without zone)",
    )


class LabelRow(FrozenModel):
    """The truth about one prediction."""

    id: str | int = Field(description="the id of the prediction")
    label: bool | int | float | str = Field(description="true or false, a class, or a number, as the model's task asks")
    event_time: datetime | None = Field(None, description="when the truth became known (ISO 8601)")


class FeedbackRequest(FrozenModel):
    """Labels, however late."""

    labels: tuple[LabelRow, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Instances:
    """The rows of one request; rows[i] holds only input columns and is not judged yet."""

    ids: tuple[str, ...]
    event_times: tuple[datetime, ...]
    rows: tuple[Mapping[str, object], ...]


def parse_instances(body: bytes, max_rows: int, schema: "Schema", now: datetime) -> Instances:
    """Read a predict or explain body; id and event time may go by their own names or by those of the model's table.

    A row without event time happens `now`. Raises RequestError, or Refused when there are more than `max_rows` rows.
    """
    return judge_rows(_objects(body, "instances", max_rows), schema, now)


def judge_rows(rows: Sequence[dict[str, Any]], schema: "Schema", now: datetime) -> Instances:
    """Ids and times of rows that were read from whatever form; raises RequestError."""
    id_keys, time_keys = ("id", schema.id or "id"), ("event_time", schema.event_time)
    ids = tuple(_row_id(row, id_keys, position) for position, row in enumerate(rows))
    _refuse_repeats(ids)
    beside = {*id_keys, *time_keys}.difference(schema.names)
    return Instances(
        ids=ids,
        event_times=tuple(_row_time(row, time_keys, position) or now for position, row in enumerate(rows)),
        rows=tuple({key: value for key, value in row.items() if key not in beside} for row in rows),
    )


def parse_labels(body: bytes, max_rows: int, model: str, task: Task, now: datetime) -> LabelBatch:
    """Read a feedback body for a model of this task; raises RequestError or Refused as `parse_instances` does."""
    rows = _objects(body, "labels", max_rows)
    for position, row in enumerate(rows):
        _refuse_unknown(row, ("id", "label", "event_time"), position)
    return LabelBatch(
        model=model,
        received_at=now,
        ids=tuple(_label_id(row, position) for position, row in enumerate(rows)),
        labels=tuple(_label(row, task, position) for position, row in enumerate(rows)),
        event_times=tuple(_row_time(row, ("event_time",), position) for position, row in enumerate(rows)),
    )


def _objects(body: bytes, key: str, max_rows: int) -> Sequence[dict[str, Any]]:
    rows = _envelope(body, key, max_rows)[key]
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"{key!r} is {_show(rows)}, expected a list of 1 to {max_rows} objects", column=key)
    if len(rows) > max_rows:
        raise too_large(f"{len(rows)} rows in one request, expected at most {max_rows}: split them")
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RequestError(f"{key}[{position}] is {_show(row)}, expected an object of column: value", row=position)
    return rows


def _envelope(body: bytes, key: str, max_rows: int) -> dict[str, Any]:
    envelope = read_json(body, max_rows)
    if not isinstance(envelope, dict) or key not in envelope:
        raise RequestError(f'the body is {_show(envelope)}, expected an object {{"{key}": [...]}}', column=key)
    if others := sorted(set(envelope) - {key}):
        other = others[0][:80]
        raise RequestError(f"key {other!r} is unknown beside {key!r}: a row's columns belong inside {key!r}", column=other)
    return envelope


def _row_id(given: Mapping[str, object], keys: Sequence[str], row: int) -> str:
    for key in keys:
        if given.get(key) is not None:
            return _id(given[key], row, key)
    return uuid.uuid4().hex


def _label_id(given: Mapping[str, object], row: int) -> str:
    if given.get("id") is None:
        raise RequestError(f"row {row}: column 'id' is missing, expected the id of a prediction", row=row, column="id")
    return _id(given["id"], row, "id")


def _id(given: object, row: int, column: str) -> str:
    text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ID:
        raise _wrong(row, column, given, f"a text of 1 to {MAX_ID} characters or a whole number")
    return text


def _refuse_repeats(ids: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name in seen:
            raise _wrong(row, "id", name, "an id that no other row of the request has")
        seen.add(name)


def _row_time(given: Mapping[str, object], keys: Sequence[str], row: int) -> datetime | None:
    for key in keys:
        if given.get(key) is not None:
            return _time(given[key], row, key)
    return None


def _time(given: object, row: int, column: str) -> datetime:
    # Not `perennial.schema.parse_time`: labels are read in the HTTP processes, which do without polars.
    try:
        if not isinstance(given, str | datetime):
            raise TypeError
        time = datetime.fromisoformat(given) if isinstance(given, str) else given
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise _wrong(row, column, given, "a time in ISO 8601 such as 2013-03-01T06:30:00Z") from None


def _label(given: Mapping[str, object], task: Task, row: int) -> Label:
    codec = LabelCodec(task)
    if given.get("label") is None:
        raise RequestError(f"row {row}: column 'label' is missing, expected {codec.expected}", row=row, column="label")
    try:
        return codec.parse(given["label"])
    except ValueError:
        raise _wrong(row, "label", given["label"], codec.expected) from None


def _refuse_unknown(given: Mapping[str, object], known: Sequence[str], row: int) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key[:MAX_ID], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"
            raise RequestError(f"row {row}: column {key!r:.80} is unknown; {hint}", row=row, column=key[:80])


def _wrong(row: int, column: str, value: object, expected: str) -> RequestError:
    return RequestError(f"row {row}, column {column!r}: {_show(value)}, expected {expected}", row=row, column=column)


def _show(value: object) -> str:
    """A client's value, short: what a container holds is not repeated."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.80}"
