"""What the service's OpenAPI says beyond what FastAPI finds out: the forms of bodies, the champion's columns, the keys.

Bodies are read as bytes, so FastAPI does not know their form; and the columns of a row are those of the version that serves.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field
from pydantic.json_schema import models_json_schema

from perennial.base import FrozenModel
from perennial.settings import Settings
from service.decoding.row_contract import MAX_ID, RowKeys
from service.web.routes import OF_A_MODEL

REFERENCE, ROW = "#/components/schemas/{model}", "Row"
_TYPES: Mapping[str, dict[str, Any]] = {
    "float": {"type": ["number", "null"]},
    "int": {"type": ["integer", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
}
_ID = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID}, {"type": "integer"}, {"type": "null"}]}
_SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}, "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}


class PredictRequest(FrozenModel):
    """Rows to predict or to explain."""

    instances: tuple[dict[str, Any], ...] = Field(
        min_length=1,
        description="one object per row: the model's columns, and optionally its id and event time (ISO 8601; UTC without zone)",
    )


class LabelRow(FrozenModel):
    """The truth about one prediction."""

    id: str | int = Field(description="the id of the prediction")
    label: bool | int | float | str = Field(description="true or false, a class, or a number, as the model's task asks")
    event_time: datetime | None = Field(None, description="when the truth became known (ISO 8601)")


class FeedbackRequest(FrozenModel):
    """Labels, however late."""

    labels: tuple[LabelRow, ...] = Field(min_length=1)


def describe(found: Mapping[str, Any], keys: RowKeys | None, settings: Settings) -> dict[str, Any]:
    """FastAPI's document with what it could not know."""
    _, forms = models_json_schema([(PredictRequest, "validation"), (FeedbackRequest, "validation")], ref_template=REFERENCE)
    schemas = {**found["components"]["schemas"], **forms["$defs"]}
    if keys is not None:
        schemas[ROW] = _row(keys)
        schemas["PredictRequest"]["properties"]["instances"]["items"] = {"$ref": REFERENCE.format(model=ROW)}
    document = {**found, "components": {**found["components"], "schemas": schemas}}
    if settings.api_keys or settings.api_keys_file:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    return document


def name_models(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The description of a service of several models, whose long addresses take one of these names."""
    paths = {path: _with_names(item, names) for path, item in document["paths"].items()}
    return {**document, "paths": paths}


def of_one_model(document: Mapping[str, Any], long: str, address: str) -> dict[str, Any]:
    """The description of one model among several: short paths below its address; `long` is how long paths begin."""
    paths = {path.removeprefix(long): _with_names(item, None) for path, item in document["paths"].items()}
    paths = {path: item for path, item in paths.items() if path in OF_A_MODEL}
    return {**document, "servers": [{"url": address}], "paths": paths}


def _with_names(item: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """A path's operations with the names that its parameter takes, or without the parameter."""
    found: dict[str, Any] = {}
    for method, operation in item.items():
        others = [one for one in operation.get("parameters", ()) if one["name"] != "name"]
        is_long = len(others) < len(operation.get("parameters", ()))
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": names}}
        parameters = [*others, *([name] if is_long and names is not None else ())]
        rest = {key: value for key, value in operation.items() if key != "parameters"}
        found[method] = {**rest, **({"parameters": parameters} if parameters else {})}
    return found


def _row(keys: RowKeys) -> dict[str, Any]:
    """The form of a row for the version that serves."""
    columns = {name: _TYPES[dtype] for name, dtype in {**keys.required, **keys.optional, **keys.ignored}.items()}
    beside = {**dict.fromkeys(keys.ids, _ID), **dict.fromkeys(keys.times, _TYPES["datetime"])}
    return {
        "type": "object",
        "description": "one row: every column, null where it is not known, and optionally its id and event time",
        "properties": {**beside, **columns},
        "required": list(keys.required),
        "additionalProperties": False,
    }
