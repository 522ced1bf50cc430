"""The models of a stack, one row each: champion, its age and account, the last decision with its reason, and what was asked.

Everything but the requests is read from the home directory and the registry, so it is shown of a stack that is down, too.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import AwareDatetime
from rich.table import Table

from deployments.stack.state import Stack
from monitoring.state import WindowResult, newest_result
from monitoring.trouble import read_trouble
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.errors import PerennialError
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import Registry
from perennial.settings import Settings, authorization

SCRAPE_TIMEOUT = timedelta(seconds=10)
"""For the service's counters; they come within milliseconds."""


class ModelRow(FrozenModel):
    """What there is to say of one model; `trouble` where it is not followed, or its files cannot be read."""

    name: str
    spec: Path
    url: str | None = None
    champion: int | None = None
    trained_at: AwareDatetime | None = None
    learnt_until: AwareDatetime | None = None
    account: str = ""
    window_end: AwareDatetime | None = None
    window_rows: int | None = None
    decision: str = ""
    reason: str = ""
    requests: int | None = None
    trouble: str = ""


def model_rows(stack: Stack, settings: Settings, *, running: bool) -> list[ModelRow]:
    """A row for each model of the stack; requests and addresses only where it runs."""
    registry, asked = Registry(settings.registry_url), _requests(stack, settings) if running else Counter[str]()
    rows = []
    for model in stack.models:
        url = stack.url_of(model.name) if running else None
        row = ModelRow(name=model.name, spec=model.spec, url=url, requests=asked.get(model.name, 0) if running else None)
        rows.append(_filled(row, settings.model_home(model.name), registry))
    return rows


def models_table(rows: Sequence[ModelRow], now: datetime) -> Table:
    """The rows for people; a model with trouble in red."""
    heads = ("model", "champion", "trained", "account", "last decision", "rows in window", "requests")
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        champion = f"version {row.champion}" if row.champion is not None else "none yet"
        age = f"{format_duration(_whole(now - row.trained_at))} ago" if row.trained_at is not None else ""
        said = f"{row.decision}: {row.reason}" if row.decision else "no window yet"
        counts = (str(count) if count is not None else "" for count in (row.window_rows, row.requests))
        table.add_row(row.name, champion, age, row.account, row.trouble or said, *counts, style="red" if row.trouble else None)
    return table


def _filled(row: ModelRow, home: Path, registry: Registry) -> ModelRow:
    try:
        champion = registry.aliases(row.name).champion
        card = load_card(registry, row.name, champion) if champion is not None else None
        found = {**_of_champion(card), **_of_window(newest_result(home))}
    except PerennialError as error:
        return row.model_copy(update={"trouble": str(error)})
    trouble = read_trouble(home)
    return row.model_copy(update={**found, "trouble": trouble.reason if trouble else ""})


def _of_champion(card: ModelCard | None) -> dict[str, object]:
    return {} if card is None else {"champion": card.version, "trained_at": card.trained_at, "learnt_until": card.until}


def _of_window(result: WindowResult | None) -> dict[str, object]:
    if result is None:
        return {}
    decision = {"decision": result.decision.kind, "reason": result.decision.reason}
    window = {"window_end": result.window.end, "window_rows": result.findings.rows}
    return {**decision, **window, "account": str(result.account) if result.account else ""}


def _requests(stack: Stack, settings: Settings) -> Counter[str]:
    """Requests that the service has answered since it started, by model; none where it does not say."""
    found: Counter[str] = Counter()
    if stack.service is None:
        return found
    timeout, headers = SCRAPE_TIMEOUT.total_seconds(), authorization(settings)
    try:
        reply = httpx.get(f"{stack.service.url}/metrics", headers=headers, timeout=timeout, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        return found
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            if sample.name == "perennial_requests_total" and sample.labels.get("model"):
                found[sample.labels["model"]] += int(sample.value)
    return found


def _whole(age: timedelta) -> timedelta:
    """An age as a person says it: in days, or in minutes on the first day."""
    return timedelta(days=age.days) if age.days else timedelta(minutes=max(1, int(age.total_seconds() // 60)))
