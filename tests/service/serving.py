"""A real service for tests: its own processes, started as a person starts it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis
from prometheus_client.parser import text_string_to_metric_families

from perennial.record import LabelBatch, PredictionBatch, decode_label_batch, decode_prediction_batch
from perennial.registry import Registry
from perennial.spec import Task
from service.prediction_log.streams import from_entry, labels_stream, predictions_stream
from tests.support import models
from tests.support.processes import free_port, running, wait_ready

START_TIMEOUT = 60.0
NAME = "small"


@dataclass(frozen=True)
class Serving:
    """A running service, and what a test looks at."""

    url: str
    registry: Registry
    process: subprocess.Popen[bytes]
    log: Path
    client: httpx.Client
    store: redis.Redis

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> httpx.Response:
        return self.client.post("/predict", json={"instances": list(rows)})

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> httpx.Response:
        return self.client.post(path, content=body, headers={"content-type": content_type})

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def versions(self) -> list[float]:
        """The version each worker answers with."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return [sample.value for family in families for sample in family.samples if sample.name == "perennial_model_version"]

    def logged(self, model: str = NAME) -> list[PredictionBatch]:
        entries: Any = self.store.xrange(predictions_stream(model))
        return [decode_prediction_batch(from_entry(fields)) for _, fields in entries]

    def logged_ids(self, model: str = NAME) -> list[str]:
        return [name for batch in self.logged(model) for name in batch.ids]

    def labels(self, model: str = NAME) -> list[LabelBatch]:
        entries: Any = self.store.xrange(labels_stream(model))
        return [decode_label_batch(from_entry(fields)) for _, fields in entries]

    def worker(self) -> psutil.Process:
        """The first worker, by what it says in the log."""
        found = re.search(r"worker (\d+) answers", self.log.read_text())
        assert found, "no worker has said that it answers"
        return psutil.Process(int(found[1]))

    def processes(self) -> list[psutil.Process]:
        """The main process and everything below it."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]


@contextmanager
def serving(
    home: Path, store_url: str, task: Task = "binary", learner: str = "lightgbm", **settings: object
) -> Iterator[Serving]:
    """Run a service with its state in `home`, at whatever its registry's champion is, until the block is left."""
    home.mkdir(exist_ok=True, parents=True)
    with serving_specs(home, store_url, [models.write_small(home, task, learner=learner)], **settings) as running:
        yield running


@contextmanager
def serving_specs(
    home: Path, store_url: str, specs: Sequence[Path], interpreter: str = sys.executable, **settings: object
) -> Iterator[Serving]:
    """`serving` of the models that these specs describe, by this Python or by that of another environment."""
    port, log = free_port(), home / "service.log"
    environment = {"REDIS_URL": store_url, "PERENNIAL_HOME": str(home), "PERENNIAL_PORT": str(port)}
    environment |= {name.upper(): str(value) for name, value in settings.items()}
    url = f"http://127.0.0.1:{port}"
    given = [part for spec in specs for part in ("--spec", str(spec))]
    with (
        redis.Redis.from_url(store_url) as store,
        running([interpreter, "-m", "service", *given], log, environment) as process,
    ):
        store.delete(*(stream(spec.stem) for spec in specs for stream in (predictions_stream, labels_stream)))
        wait_ready(process, lambda: answers(url), log, START_TIMEOUT, "service")
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Serving(url, registry_of(home), process, log, client, store)


def registry_of(home: Path) -> Registry:
    """The registry that a service with this home reads."""
    return Registry(str(home.absolute() / "registry"))


def answers(url: str) -> bool:
    """Whether a worker of the service at `url` answers, with a model or without."""
    try:
        body = json.loads(httpx.get(f"{url}/ready", timeout=5).content)
        return "version" in body or "ready" in body or body["error"]["code"] == "no_model"
    except (httpx.HTTPError, ValueError):
        return False


def rows(count: int, start: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as a client sends them, named `row-{start}` onwards."""
    sent = models.instances(models.small_frame(rows=count, seed=seed))
    return [{**row, "id": f"row-{start + number}"} for number, row in enumerate(sent)]
