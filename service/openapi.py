"""What the service's OpenAPI says beyond what FastAPI finds out: the forms of bodies, the champion's columns, the keys.

Bodies are read as bytes, so FastAPI does not know their form; and the columns of a row are those of the version that serves.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema

from perennial.errors import PerennialError
from service.requests import FeedbackRequest, PredictRequest

if TYPE_CHECKING:
    from service.routes import Front

DEFINITION = "#/components/schemas/{model}"
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


def add_description(app: FastAPI, front: "Callable[[], Front]") -> None:
    """Serve the whole description at FastAPI's address for it."""
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != app.openapi_url]

    @app.get(str(app.openapi_url), include_in_schema=False)
    def openapi() -> JSONResponse:  # not async: the registry may be far away
        return JSONResponse(describe(app.openapi(), front()))


def describe(found: Mapping[str, Any], front: "Front") -> dict[str, Any]:
    """FastAPI's document with what it could not know."""
    _, forms = models_json_schema([(PredictRequest, "validation"), (FeedbackRequest, "validation")], ref_template=DEFINITION)
    schemas = {**found["components"]["schemas"], **forms["$defs"]}
    if row := _row(front):
        schemas[ROW] = row
        schemas["PredictRequest"]["properties"]["instances"]["items"] = {"$ref": DEFINITION.format(model=ROW)}
    document = {**found, "components": {**found["components"], "schemas": schemas}}
    if front.asks_for_keys:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    return document


def _row(front: "Front") -> dict[str, Any] | None:
    """The form of a row for the version that serves; None before the first, or when the registry is away."""
    try:
        inputs = front.model().inputs
    except PerennialError:
        return None
    beside: dict[str, Any] = {"id": _ID, "event_time": _TYPES["datetime"]}
    columns = {name: _TYPES[dtype] for name, dtype in inputs.items()}
    return {
        "type": "object",
        "description": "one row: every input column, null where it is not known, and optionally its id and event time",
        "properties": {**beside, **columns},
        "required": list(columns),
    }
