"""What the service says about itself on /metrics, reduced to what the demo asks of it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import AwareDatetime

from perennial.base import FrozenModel
from perennial.errors import StackError

VERSION, SWAPPED = "perennial_model_version", "perennial_model_swapped_timestamp_seconds"
PREDICTIONS, LABELS = "perennial_predictions_total", "perennial_labels_total"

SCRAPE_TIMEOUT = timedelta(seconds=10)
"""For one answer of /metrics; it takes milliseconds on a quiet machine."""


class ServiceMetrics(FrozenModel):
    """One look at /metrics; gauges are of the slowest worker, counters the sum of all."""

    version: int = 0
    swapped_at: AwareDatetime | None = None
    predictions: int = 0
    labels: int = 0


def scrape(url: str, headers: Mapping[str, str] | None = None) -> ServiceMetrics:
    """Look at the service at `url`, with `headers` that carry a key; raises StackError when it does not answer."""
    timeout = SCRAPE_TIMEOUT.total_seconds()
    try:
        reply = httpx.get(f"{url}/metrics", headers=headers, timeout=timeout, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise StackError(f"{url}/metrics does not answer ({error}): see the service's log with `perennial status`") from error
    return read_metrics(reply.text)


def read_metrics(text: str) -> ServiceMetrics:
    """Read the Prometheus text format. A version counts once every worker answers with it, so the oldest one counts."""
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.value)
    swapped = max(found.get(SWAPPED, []), default=0.0)
    return ServiceMetrics(
        version=int(min(found.get(VERSION, []), default=0)),
        swapped_at=datetime.fromtimestamp(swapped, UTC) if swapped else None,
        predictions=int(sum(found.get(PREDICTIONS, []))),
        labels=int(sum(found.get(LABELS, []))),
    )
