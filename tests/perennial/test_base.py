"""Values are frozen; a stored one says in which format it was written, and a newer format is refused by name."""

import pytest
from pydantic import ValidationError

from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat


class Position(StoredModel):
    """A stored value for these tests."""

    rows: int


def test_a_stored_value_reads_back_what_was_written():
    written = Position(rows=3).model_dump_json().encode()
    assert written == b'{"format":1,"rows":3}'
    assert read_stored(Position, written, "position.json") == Position(rows=3)


def test_a_newer_format_is_refused_by_name_whatever_else_it_holds():
    with pytest.raises(NewerFormat, match=r"position.json was written by a newer release .*format 2, this one reads 1"):
        read_stored(Position, b'{"format": 2, "place": "unknown here"}', "position.json")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 1}', b'{"format": 0, "rows": 1}', b'{"format": 1, "rows": 1, "more": 2}']
)
def test_anything_else_is_a_validation_error(content: bytes):
    with pytest.raises(ValidationError):
        read_stored(Position, content, "position.json")
