"""The smoke test of a service: whether it is ready, and scores the champions' reference samples as they were scored in training.

It asks `/explain`, whose rows are not logged, so that no prediction of the test is learnt from. Where the registry cannot be read
from here, a row of nulls stands for the sample. Costs a few requests a model.
"""

import io
import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import httpx
import polars as pl

from perennial.errors import PerennialError
from perennial.log_columns import EVENT_TIME, SCORE
from perennial.model import REFERENCE_FILE
from perennial.registry import Registry

ROWS = 20  # of the reference sample that are asked
TOLERANCE = 1e-6  # of a score: estimators may add in another order on another machine


def smoke(url: str, headers: Mapping[str, str], registry: Registry) -> list[str]:
    """What is wrong with the service at this address; nothing when all is well."""
    try:
        with httpx.Client(base_url=url, headers=dict(headers), timeout=30) as client:
            return list(_problems(client, registry))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return [f"{url} does not answer as a service does: {error!r}"]


def _problems(client: httpx.Client, registry: Registry) -> Iterator[str]:
    for path in ("/health", "/ready", "/metrics"):
        if (response := client.get(path)).status_code != HTTPStatus.OK:
            yield f"{path} answers {response.status_code}: {response.text[:200]}"
    for model in client.get("/models").json()["models"]:
        yield from _problems_of(client, f"/models/{model['name']}", registry)


def _problems_of(client: httpx.Client, path: str, registry: Registry) -> Iterator[str]:
    described = client.get(f"{path}/model")
    if described.status_code != HTTPStatus.OK:
        yield f"{path}/model answers {described.status_code}: {described.text[:200]}"
        return
    info = described.json()
    if info["refused"]:
        yield f"{path} refuses its champion: {info['refused']}"
    rows, expected = _sample(info, registry)
    answer = client.post(f"{path}/explain", json={"instances": rows})
    if answer.status_code != HTTPStatus.OK:
        yield f"{path}/explain answers {answer.status_code}: {answer.text[:200]}"
        return
    for number, (found, score) in enumerate(zip(answer.json()["explanations"], expected, strict=True)):
        if not _alike(found["score"], score):
            yield f"{path}: row {number} of the reference sample scores {found['score']}, and scored {score} in training"
            return
    if (refused := client.post(f"{path}/predict", json={"instances": []})).status_code != HTTPStatus.UNPROCESSABLE_ENTITY:
        yield f"{path}/predict answers a request without rows with {refused.status_code}, not 422"


def _sample(info: Mapping[str, Any], registry: Registry) -> tuple[list[dict[str, Any]], list[float | None]]:
    """Rows, and the scores that they must have; None where only that there is one can be asked."""
    try:
        content = registry.read(info["model"], info["version"], REFERENCE_FILE)[REFERENCE_FILE]
    except (PerennialError, OSError):
        return [dict.fromkeys(info["inputs"])], [None]
    sample = pl.read_parquet(io.BytesIO(content)).head(ROWS)
    times, scores = sample[EVENT_TIME].to_list(), sample[SCORE].to_list()
    texts = sample.select(list(info["inputs"])).with_columns(pl.col(pl.Datetime).dt.to_string("iso:strict")).to_dicts()
    when = info["rows"]["event_time"][0]
    rows = [{when: time.isoformat(), **_finite(row)} for time, row in zip(times, texts, strict=True)]
    return rows, [max(score) if isinstance(score, list) else score for score in scores]


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as JSON has it, where no number stands for a null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _alike(found: float, expected: float | None) -> bool:
    return math.isfinite(found) if expected is None else math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
