"""Any polars type: used as a feature it is converted without loss or refused by name with the fix; unused it is left alone."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import ChecksFailed, DataError, PerennialError
from perennial.features import compile_features, fit_features
from perennial.schema import cast_frame, infer_schema
from perennial.spec import ChecksSpec, ColumnCheck, ModelSpec, parse_spec
from tasks.data.datasets import content_fingerprint, read_dataset
from tasks.data.ingest import ingest
from tasks.data.validate import validate
from tasks.job import load_job
from tasks.serving.replay import prepare, ticks
from tasks.training.training_data import build_training_data
from tests.cases.inputs import copy_case, edit_spec
from tests.tasks.making import NOW

ROWS = 60
LATER = datetime(2027, 1, 1, tzinfo=UTC)  # the rows of the cases lie before it
START = datetime(2025, 9, 1, tzinfo=UTC)
SPEC = 'sources.rows.loader = "loader.py:rows"\nchecks.min_rows = 20\n'
EXAMPLES = 40
"""The fixed budget of each property: some ten seconds."""

INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Int128, pl.UInt128)
SCALARS = (
    *INTEGERS,
    *(pl.Float16, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Categorical, pl.Binary, pl.Date, pl.Time, pl.Null),
    *(pl.Duration(unit) for unit in ("ns", "us", "ms")),
    *(pl.Datetime(unit, zone) for unit in ("ns", "us", "ms") for zone in (None, "UTC", "America/New_York")),
    *(pl.Decimal(20, 2), pl.Decimal(38, 0), pl.Enum(["a", "b"]), pl.Object),
)
"""Every type of polars that holds no other; a new release's ones are missed by `test_no_type_is_left_out`."""

scalars = st.sampled_from([dtype if isinstance(dtype, pl.DataType) else dtype() for dtype in SCALARS])
inner = scalars.filter(lambda dtype: dtype not in (pl.Object, pl.Categorical, pl.Float16))
dtypes = st.one_of(
    scalars,
    st.one_of(inner, inner.map(pl.List)).map(pl.List),
    st.tuples(inner, st.integers(1, 3)).map(lambda parts: pl.Array(parts[0], parts[1])),
    st.lists(inner, min_size=1, max_size=3).map(lambda parts: pl.Struct({f"part {at}": one for at, one in enumerate(parts)})),
)


def values(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    """Values of a type, null among them, over the whole of its range."""
    return st.none() | _known(dtype)


def _known(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    if dtype.is_integer():
        low, high = (pl.select(edge()).item() for edge in (dtype.min, dtype.max))
        return st.integers(low, high) | st.integers(max(low, -9), min(high, 9))
    if isinstance(dtype, pl.List | pl.Array):
        length = dtype.shape[0] if isinstance(dtype, pl.Array) else None
        return st.lists(values(dtype.inner), min_size=length or 0, max_size=3 if length is None else length)
    if isinstance(dtype, pl.Struct):
        return st.fixed_dictionaries({field.name: values(field.dtype) for field in dtype.fields})
    return MADE[type(dtype)](dtype)


MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - hypothesis draws naive ones
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
MADE: dict[type[pl.DataType], Callable[[Any], st.SearchStrategy[Any]]] = {
    pl.Null: lambda _: st.none(),
    pl.Boolean: lambda _: st.booleans(),
    pl.String: lambda _: TEXTS,
    pl.Categorical: lambda _: TEXTS,
    pl.Enum: lambda dtype: st.sampled_from(dtype.categories.to_list()),
    pl.Binary: lambda _: st.binary(max_size=5),
    pl.Decimal: lambda dtype: st.decimals(-(10**17), 10**17, places=dtype.scale),
    pl.Object: lambda _: st.sampled_from([{1}, object(), "text"]),
    pl.Date: lambda _: MOMENTS.map(datetime.date),
    pl.Time: lambda _: MOMENTS.map(datetime.time),
    pl.Duration: lambda _: st.timedeltas(timedelta(days=-9_000), timedelta(days=9_000)),
    pl.Datetime: lambda dtype: MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC) if dtype.time_zone else moment),
    pl.Float16: lambda _: st.floats(width=16),
    pl.Float32: lambda _: st.floats(width=32),
    pl.Float64: lambda _: st.floats(),
}


def column(dtype: pl.DataType, cells: list[Any], rows: int = ROWS) -> pl.Series:
    """A column `x` in which the cells repeat to the end."""
    repeated = (cells * rows)[:rows]
    if dtype == pl.Object:
        return pl.Series("x", repeated, dtype=pl.Object)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return pl.Series("x", repeated, dtype=pl.Datetime(dtype.time_unit, "UTC")).dt.convert_time_zone(dtype.time_zone)
    return pl.Series("x", repeated, dtype=dtype, strict=False)


def table(x: pl.Series) -> pl.DataFrame:
    """Rows an hour apart with a column of any type beside a plain feature."""
    times = pl.datetime_range(START, START + timedelta(hours=x.len() - 1), "1h", eager=True)
    plain = pl.Series([float(row % 7) for row in range(x.len())])
    return pl.DataFrame({"id": [f"r{row}" for row in range(x.len())], "at": times, "plain": plain, "y": plain > 3, "x": x})


def spec_of(**features: Any) -> ModelSpec:
    raw = {"name": "types", "task": "binary", "target": "y", "event_time": "at", "id": "id", "checks": {"min_rows": 20}}
    return parse_spec(raw | {"sources": {"rows": {"path": "rows.csv"}}, "features": {"plain": {}, **features}}, "the test")


any_column = dtypes.flatmap(lambda dtype: st.lists(values(dtype), min_size=1, max_size=6).map(lambda cells: column(dtype, cells)))
budget = settings(max_examples=EXAMPLES, derandomize=True, deadline=None)

LOADED: list[pl.DataFrame] = []
"""What the loader below returns: the table of the example at hand."""

LOADER = f"import sys\n\n\ndef rows():\n    return sys.modules[{__name__!r}].LOADED[-1]\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec whose rows come from LOADED."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "loader.py").write_text(LOADER)
    text = f'name = "types"\ntask = "binary"\ntarget = "y"\nevent_time = "at"\nid = "id"\n{SPEC}[features]\nplain = {{}}\n'
    (folder / "spec.toml").write_text(text)
    return folder


@budget
@given(any_column, st.sampled_from([None, "numeric", "categorical"]))
def test_a_feature_is_converted_without_loss_or_refused_by_name(x: pl.Series, kind: str | None) -> None:
    frame, spec = table(x), spec_of(x={"kind": kind})
    computed, refusal = compute_x(spec, frame)
    if computed is None:
        assert re.search(r"'x'.*(derive|date_part|loader|is not)", refusal), refusal
        return
    for cell, value in zip(x, computed, strict=True):
        assert_kept(cell, value)
    for tick in ticks(prepare(frame, spec), START, None, timedelta(0)):
        orjson.dumps(tick.rows)


def compute_x(spec: ModelSpec, frame: pl.DataFrame) -> tuple[pl.Series | None, str]:
    """The feature's values, or why there are none."""
    try:
        rows = cast_frame(frame, infer_schema(spec, frame))
        return compile_features(fit_features(spec, rows), Path()).table(rows)["x"], ""
    except PerennialError as refusal:
        return None, str(refusal)


def assert_kept(cell: Any, value: float | str | None) -> None:
    """A cell's value as the feature has it; NaN is null."""
    if cell is None or cell != cell:
        assert value is None
    elif isinstance(value, str) and isinstance(cell, float | Decimal):
        assert float(value) == float(cell)
    elif isinstance(value, str):
        assert value == (str(cell).lower() if isinstance(cell, bool) else str(cell))
    elif isinstance(cell, str):
        assert value == float(cell)
    else:
        assert value == cell or (isinstance(cell, Decimal) and value == float(cell))


@budget
@given(any_column)
def test_an_unused_column_is_left_alone(directory: Path, x: pl.Series) -> None:
    LOADED[:] = [table(x)]
    job = load_job(directory / "spec.toml", {"PERENNIAL_HOME": str(directory / "var")}, NOW)
    dataset = ingest.fn(job, None)
    rows, checks = validate.fn(job, dataset)
    data = build_training_data.fn(job, rows, dataset.manifest)
    assert (checks.bad_rows, data.table.matrix.shape) == (0, (ROWS, 1))
    again = ingest.fn(job, None)
    assert again.path == dataset.path
    stored = read_dataset(job.home, dataset.manifest.fingerprint).frame
    assert content_fingerprint(stored) == content_fingerprint(dataset.frame)


@budget
@given(any_column)
def test_a_fingerprint_follows_the_values_and_nothing_else(x: pl.Series) -> None:
    if x.dtype == pl.Object:
        return
    frame = x.to_frame()
    parts = pl.concat([frame[:7], frame[7:]], rechunk=False)
    assert content_fingerprint(frame) == content_fingerprint(parts) == content_fingerprint(frame.clone())
    turned = frame[list(reversed(range(frame.height)))]
    assert (content_fingerprint(turned) == content_fingerprint(frame)) == turned.equals(frame)


def test_no_type_is_left_out() -> None:
    """Types that polars has and no example makes: abstract ones, and those that only an extension can make."""
    found = {kind for kind in vars(pl.datatypes).values() if isinstance(kind, type) and issubclass(kind, pl.DataType)}
    made = {dtype if isinstance(dtype, type) else type(dtype) for dtype in SCALARS} | {pl.List, pl.Array, pl.Struct}
    assert {kind.__name__ for kind in found - made} <= {
        *("DataType", "IntegerType", "FloatType", "TemporalType", "NumericType", "NestedType", "ObjectType", "DecimalType"),
        *("SignedIntegerType", "UnsignedIntegerType", "Unknown", "Map", "Extension", "BaseExtension"),
    }


def test_a_name_of_twenty_digits_is_any_other_name(tmp_path: Path) -> None:
    job = load_job(copy_case("twenty-digit-id", tmp_path), {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    dataset = ingest.fn(job, None)
    rows, checks = validate.fn(job, dataset)
    assert (dataset.frame["rid"].dtype, checks.bad_rows) == (pl.String, 0)
    assert build_training_data.fn(job, rows, dataset.manifest).table.matrix.shape == (rows.height, 2)
    assert prepare(dataset.frame, job.spec)["_id"][0] == "92233720368547100000"


def test_twenty_digits_as_a_category_are_texts_to_the_last_digit(tmp_path: Path) -> None:
    path = edit_spec(copy_case("twenty-digit-id", tmp_path), x='rid = "categorical"', id="")
    job = load_job(path, {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    data = build_training_data.fn(job, (dataset := ingest.fn(job, None)).frame, dataset.manifest)
    assert data.schema.dtypes["rid"] == "string"
    assert "92233720368547100001" in data.compiled.features.categories["rid"]


def test_twenty_digits_as_a_number_are_refused_with_the_fix(tmp_path: Path) -> None:
    path = edit_spec(copy_case("twenty-digit-id", tmp_path), x="rid = {}", id="")
    dataset = ingest.fn(job := load_job(path, {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER), None)
    with pytest.raises(DataError, match=r"'rid', row \d+: \d{20} is not .*kind = \"categorical\", or round it by derive"):
        build_training_data.fn(job, dataset.frame, dataset.manifest)
    rounded = edit_spec(path, name='name = "rounded"\nderive."rid" = \'CAST("rid" AS DOUBLE)\'')
    job = load_job(rounded, {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    dataset = ingest.fn(job, None)
    assert build_training_data.fn(job, dataset.frame, dataset.manifest).schema.dtypes["rid"] == "float"


def test_decimals_train_are_replayed_as_numbers_and_have_one_fingerprint(tmp_path: Path) -> None:
    job = load_job(copy_case("feature-decimal", tmp_path), {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    dataset = ingest.fn(job, None)
    assert dataset.frame["x"].dtype.is_decimal()
    assert ingest.fn(job, None).path == dataset.path
    assert build_training_data.fn(job, dataset.frame, dataset.manifest).table.matrix[0, 0] == float(dataset.frame["x"][0])
    tick = next(ticks(prepare(dataset.frame, job.spec), dataset.frame["ts"][0], None, timedelta(0)))
    assert orjson.loads(orjson.dumps(tick.rows))[0]["x"] == float(dataset.frame["x"][0])


@pytest.mark.parametrize(
    ("dtype", "cell", "derived"),
    [
        (pl.Duration("us"), timedelta(hours=2), 'CAST("x" AS BIGINT)'),
        (pl.Time(), time(9, 30), 'EXTRACT(HOUR FROM "x")'),
        (pl.List(pl.Int64), [1, 2], 'ARRAY_LENGTH("x")'),
        (pl.Struct({"a b": pl.Float64}), {"a b": 1.5}, '"x"."a b"'),
    ],
)
def test_what_a_refusal_proposes_can_be_pasted(dtype: pl.DataType, cell: Any, derived: str) -> None:
    x = column(dtype, [cell])
    with pytest.raises(DataError, match=re.escape(derived)):
        infer_schema(spec_of(x={}), table(x))
    spec = spec_of(part={})
    frame = table(x).with_columns(pl.sql_expr(derived).alias("part"))
    assert infer_schema(spec, frame).dtypes["part"] == "float"


def test_a_list_as_id_slice_or_checked_column_is_refused_before_any_training(tmp_path: Path, directory: Path) -> None:
    LOADED[:] = [table(column(pl.List(pl.Int64), [[1], [2]]))]
    job = load_job(directory / "spec.toml", {"PERENNIAL_HOME": str(tmp_path)}, NOW)
    for changed in ({"id": "x"}, {"slices": ("x",)}, {"checks": ChecksSpec(columns={"x": ColumnCheck(min=0)})}):
        odd = replace(job, spec=job.spec.model_copy(update=changed))
        with pytest.raises(ChecksFailed, match=r"x: is List\(Int64\), which no feature can read; derive"):
            validate.fn(odd, ingest.fn(odd, None))
