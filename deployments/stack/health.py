"""Whether the service of a stack answers, and for which models."""

from contextlib import suppress
from datetime import timedelta

import httpx

from deployments.stack.state import Stack
from service.plan import read_served

HEALTH_TIMEOUT = timedelta(seconds=2)  # for the answer to a health check; it takes milliseconds


def serves_its_models(stack: Stack) -> bool:
    """Whether every worker of the service serves the models of the stack, and no others."""
    service = stack.service
    if service is None or not is_healthy(service.url):
        return False
    return read_served(stack.home, service.port) == tuple(sorted(model.name for model in stack.models))


def is_healthy(url: str) -> bool:
    """Whether a service answers at this address."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=HEALTH_TIMEOUT.total_seconds(), trust_env=False).is_success
    return False
