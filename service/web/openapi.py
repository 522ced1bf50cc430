"""What the service's OpenAPI says beyond what FastAPI finds out: the forms of bodies, the champion's columns, the keys.

Bodies are read as bytes, so FastAPI does not know their form; and the columns of a row are those of the version that serves.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field
from pydantic.json_schema import models_json_schema

from perennial.base import FrozenModel
from perennial.errors import PerennialError
from perennial.settings import Settings
from service.web.model_info import ChampionInfo

REFERENCE = "#/components/schemas/{model}"
"""Where OpenAPI keeps the form of a body."""

ROW = "Row"

_TYPES: Mapping[str, dict[str, Any]] = {
    "float": {"type": ["number", "null"]},
    "int": {"type": ["integer", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
}
_ID = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 256}, {"type": "integer"}, {"type": "null"}]}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


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


def describe(found: Mapping[str, Any], champion: ChampionInfo, settings: Settings) -> dict[str, Any]:
    """FastAPI's document with what it could not know."""
    _, forms = models_json_schema([(PredictRequest, "validation"), (FeedbackRequest, "validation")], ref_template=REFERENCE)
    schemas = {**found["components"]["schemas"], **forms["$defs"]}
    if row := _row(champion):
        schemas[ROW] = row
        schemas["PredictRequest"]["properties"]["instances"]["items"] = {"$ref": REFERENCE.format(model=ROW)}
    document = {**found, "components": {**found["components"], "schemas": schemas}}
    if settings.api_keys or settings.api_keys_file:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    return document


def _row(champion: ChampionInfo) -> dict[str, Any] | None:
    """The form of a row for the version that serves; None before the first, or when the registry is away."""
    try:
        inputs = champion.info().inputs
    except PerennialError:
        return None
    columns = {name: _TYPES[dtype] for name, dtype in inputs.items()}
    return {
        "type": "object",
        "description": "one row: every input column, null where it is not known, and optionally its id and event time",
        "properties": {"id": _ID, "event_time": _TYPES["datetime"], **columns},
        "required": list(columns),
    }
