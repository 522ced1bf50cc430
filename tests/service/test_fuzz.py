"""Requests made from the served OpenAPI, right and wrong ones: none is an error of ours, every answer is as documented."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.service.serving import Serving, rows

EXAMPLES = 40
"""Requests for each way of asking: with SEED the same ones in every run."""
SEED = 3
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

fixed = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),  # the time to answer is not judged here
)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def document(service: Serving) -> Any:
    """The description that the service gives of itself."""
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/predict", "/explain", "/feedback"])
def test_no_body_is_an_error_of_ours(
    service: Serving, document: Any, session: requests.Session, path: str, mode: GenerationMode
) -> None:
    seen: Counter[int] = Counter()

    @seed(SEED)
    @fixed
    @given(case=document[path]["POST"].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(session=session)
        seen[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
    answered = {200, 202} & set(seen)
    assert (sum(seen.values()), bool(answered)) == (EXAMPLES, mode is GenerationMode.POSITIVE)
    assert service.predict(rows(1)).status_code == 200


@pytest.mark.parametrize("path", ["/model", "/health", "/ready", "/metrics"])
def test_every_report_is_as_documented(document: Any, session: requests.Session, path: str) -> None:
    case = document[path]["GET"].Case()
    case.call_and_validate(session=session, checks=CHECKS)
