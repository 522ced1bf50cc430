"""The label contract of one task: from the bytes of a /feedback request to a batch of labels for the stream.

Which labels suit a model is decided by `perennial.labels.LabelCodec` alone.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from msgspec.structs import astuple

from perennial.labels import LabelCodec
from perennial.record import LabelBatch
from perennial.value_types import EXPECTED, check_value
from service.decoding.json_rows import RowsDecoder, define_row
from service.decoding.row_contract import ID_EXPECTED, ID_TYPE, TEXT_TYPE

_read_time = partial(check_value, dtype="datetime")


class LabelContract:
    """What a label may be, as `codec` says when a request comes; shared by all threads."""

    def __init__(self, model: str, codec: Callable[[], LabelCodec]) -> None:
        self._model, self._codec = model, codec
        expected = {"id": ID_EXPECTED, "label": codec().expected, "event_time": EXPECTED["datetime"]}
        columns = [("id", ID_TYPE), ("label", bool | int | float | str), ("event_time", TEXT_TYPE | None, None)]
        self._decoder = RowsDecoder("labels", define_row("Label", columns), expected)

    def decode(self, body: bytes, max_rows: int, now: datetime) -> LabelBatch:
        """The labels of a body, received `now`; raises RequestError, or ServiceError (413) for too many."""
        codec = self._codec()
        parse, expected = codec.parse, codec.expected
        rows = [astuple(row) for row in self._decoder.decode(body, max_rows)]
        return LabelBatch(
            model=self._model,
            received_at=now,
            ids=tuple([str(name) for name, _, _ in rows]),
            labels=tuple([self._read(parse, label, row, "label", expected) for row, (_, label, _) in enumerate(rows)]),
            event_times=tuple([self._read(_read_time, time, row, "event_time") for row, (_, _, time) in enumerate(rows)]),
        )

    def _read(self, parse: Callable[[object], Any], value: object, row: int, column: str, expected: str | None = None) -> Any:
        try:
            return parse(value)
        except ValueError:
            raise self._decoder.wrong(row, column, value, expected) from None
