"""A table of labels is judged row by row as /feedback judges a request."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from perennial.errors import DataError
from perennial.labels import codec_of
from perennial.log_columns import EVENT_TIME, ID, LABEL
from perennial.spec import ModelSpec, Task
from perennial.spec_sources import LabelsSpec
from tasks.data.label_table import LabelTable, read_label_table
from tests.support.models import small_spec


def read(directory: Path, text: str, task: Task = "binary", spec: ModelSpec | None = None, **keys: Any) -> LabelTable:
    """The labels of a CSV file with this text."""
    (directory / "labels.csv").write_text(text)
    spec = spec or small_spec(task)
    source = LabelsSpec(path="labels.csv", **keys)
    return read_label_table(source, spec, codec_of(spec), directory, {})


def test_rows_that_http_would_refuse_are_named_and_the_others_stand(tmp_path: Path) -> None:
    text = "id,label,event_time\na,1,2024-01-01T06:00:00Z\n,1,\nb,maybe,2024-01-02T06:00:00Z\nc,,\nd,no,someday\ne,true,\n"
    table = read(tmp_path, text)
    assert table.rows.rows() == [("a", datetime(2024, 1, 1, 6, tzinfo=UTC), True), ("e", None, True)]
    assert (table.unlabelled, table.refused) == (1, 3)
    assert table.reasons == (
        "row 2: id is None, expected a text of 1 to 256 characters or a whole number",
        "row 3: label is 'maybe', expected true, false, 1 or 0 (or yes or no)",
        "row 5: event_time is 'someday', expected a time such as 2024-03-01T06:00:00Z",
    )


def test_columns_are_those_of_http_or_of_the_spec_or_are_asked_for(tmp_path: Path) -> None:
    assert str(read(tmp_path, "id,label\n1,1\n").columns) == "id, label"
    assert str(read(tmp_path, "row_id,outcome,asked_at\n1,1,2024-01-01\n").columns) == "row_id, outcome, asked_at"
    assert str(read(tmp_path, "case,verdict\n1,1\n", id="case", label="verdict").columns) == "case, verdict"
    with pytest.raises(DataError, match="the columns are case, verdict: say which one it is by id and label"):
        read(tmp_path, "case,verdict\n1,1\n")
    with pytest.raises(DataError, match=r"labels\.label names 'truth'"):
        read(tmp_path, "id,label\n1,1\n", label="truth")


def test_the_dialect_of_the_file_is_that_of_a_source(tmp_path: Path) -> None:
    text = "id;label;when\n007;1,5;01/02/2024 06:00\n"
    table = read(tmp_path, text, "regression", separator=";", decimal=",", time="when", time_format={"when": "%d/%m/%Y %H:%M"})
    assert table.rows.rows() == [("007", datetime(2024, 2, 1, 6, tzinfo=UTC), 1.5)]


@pytest.mark.parametrize(
    ("task", "labels", "stored"),
    [("multiclass", [1, 2], ["1", "2"]), ("regression", [1, 2], [1.0, 2.0]), ("binary", [0, 1], [False, True])],
)
def test_ids_and_labels_of_a_typed_table_are_those_that_a_client_would_send(
    tmp_path: Path, task: Task, labels: list[int], stored: list[Any]
) -> None:
    ids = pl.Series([12.0, 13.0])
    pl.DataFrame({"id": ids, "label": labels}).write_parquet(tmp_path / "labels.parquet")
    spec = small_spec(task)
    rows = read_label_table(LabelsSpec(path="labels.parquet"), spec, codec_of(spec), tmp_path, {}).rows
    assert rows.select(ID, LABEL).rows() == list(zip(["12", "13"], stored, strict=True))
    assert rows[EVENT_TIME].null_count() == 2


def test_declared_classes_are_the_only_ones(tmp_path: Path) -> None:
    spec = small_spec("multiclass").model_copy(update={"classes": ("low", "high")})
    table = read(tmp_path, "id,label\na,low\nb,middle\n", spec=spec)
    assert (table.rows[ID].to_list(), table.refused) == (["a"], 1)
    assert "expected one of the declared classes 'low', 'high'" in table.reasons[0]
