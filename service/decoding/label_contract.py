"""The label contract of one task: from the bytes of a /feedback request to a batch of labels for the stream.

Which labels suit a model is decided by `perennial.labels.LabelCodec` alone.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec.structs import astuple

from perennial.labels import LabelCodec
from perennial.record import Label, LabelBatch
from perennial.value_types import EXPECTED, parse_time
from service.decoding.json_rows import RowsDecoder, define_row
from service.decoding.row_contract import ID_EXPECTED, ID_TYPE, TEXT_TYPE


class LabelContract:
    """What a label may be, as `codec` says when a request comes; shared by all threads."""

    def __init__(self, model: str, codec: Callable[[], LabelCodec]) -> None:
        self._model, self._codec = model, codec
        expected = {"id": ID_EXPECTED, "label": codec().expected, "event_time": EXPECTED["datetime"]}
        columns = [("id", ID_TYPE), ("label", bool | int | float | str), ("event_time", TEXT_TYPE | None, None)]
        row = define_row("Label", columns)
        self._decoder: RowsDecoder[msgspec.Struct] = RowsDecoder("labels", row, expected)

    def decode(self, body: bytes, max_rows: int, now: datetime) -> LabelBatch:
        """The labels of a body, received `now`; raises RequestError, or ServiceError (413) for too many."""
        codec = self._codec()
        rows = [astuple(row) for row in self._decoder.decode(body, max_rows)]
        return LabelBatch(
            model=self._model,
            received_at=now,
            ids=tuple([str(name) for name, _, _ in rows]),
            labels=tuple([self._label(codec, label, row) for row, (_, label, _) in enumerate(rows)]),
            event_times=tuple([self._time(time, row) for row, (_, _, time) in enumerate(rows)]),
        )

    def _label(self, codec: LabelCodec, label: Label, row: int) -> Label:
        try:
            return codec.parse(label)
        except ValueError:
            raise self._decoder.wrong(row, "label", label, codec.expected) from None

    def _time(self, text: str | None, row: int) -> datetime | None:
        try:
            return None if text is None else parse_time(text)
        except ValueError:
            raise self._decoder.wrong(row, "event_time", text) from None
