"""FastAPI as the tutorials have it: a pydantic request, `booster.predict`, a dict as response."""

from typing import Any

from coding import load_booster, load_coding
from coding import predict as score
from fastapi import FastAPI
from pydantic import BaseModel


class Request(BaseModel):
    """Rows to predict."""

    instances: list[dict[str, Any]]


def create_app() -> FastAPI:
    """The app of one process."""
    booster, coding, app = load_booster(), load_coding(), FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, list[float]]:
        return {"predictions": score(booster, coding.matrix(request.instances))}

    return app
