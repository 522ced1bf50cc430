"""Bare FastAPI that logs every prediction with an `XADD` before it answers, as the tutorials of prediction logs have it."""

import json
import os
import uuid
from typing import Any

import redis.asyncio as redis
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
    store = redis.from_url(os.environ["REDIS_URL"])

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, list[float]]:
        scores = score(booster, coding.matrix(request.instances))
        entry = {"id": uuid.uuid4().hex, "rows": json.dumps(request.instances), "scores": json.dumps(scores)}
        await store.xadd("bench:xadd", entry)
        return {"predictions": scores}

    return app
