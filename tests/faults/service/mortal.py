"""A store that can be killed, frozen and started again with what it had written."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from monitoring.archive import Archive
from monitoring.consumer import StreamConsumer
from perennial.log_columns import ID
from perennial.record import decode_prediction_batch
from service.prediction_log.streams import from_entry, predictions_stream
from tests.service.serving import NAME
from tests.support import models
from tests.support.processes import free_port, wait_ready
from tests.support.store import answers, valkey_binary


@dataclass
class Store:
    """A server process, by its own port and directory; `process` changes when it is started again."""

    directory: Path
    port: int
    process: psutil.Popen

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """As a crash does it."""
        if self.process.is_running():
            self.process.kill()
            self.process.wait(10)

    def start(self) -> None:
        """Again, with everything it had answered for."""
        self.process = _start(self.directory, self.port)

    def freeze(self) -> None:
        """It takes connections and commands, and answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Everything it was sent meanwhile is carried out."""
        os.kill(self.process.pid, signal.SIGCONT)

    def streamed(self) -> list[str]:
        """The id of every row in the stream of predictions, as often as it is there."""
        with redis.Redis.from_url(self.url) as client:
            entries: Any = client.xrange(predictions_stream(NAME))
        return [name for _, fields in entries for name in decode_prediction_batch(from_entry(fields)).ids]

    def archived(self, home: Path) -> list[str]:
        """The ids in the archive, after the monitor's reader has read the whole stream into it."""
        archive = Archive(home, "binary", models.small_model().card.schema_)
        with redis.Redis.from_url(self.url) as client:
            consumer = StreamConsumer(client, NAME)
            consumer.ensure_groups()
            while (batch := consumer.read()).entries:
                archive.store_predictions(archive.prediction_rows([entry.record for entry in batch.predictions]))
        return archive.scan().collect()[ID].to_list()


@contextmanager
def mortal_store(directory: Path) -> Iterator[Store]:
    """A store with its files in `directory`; it is killed when the block is left."""
    directory.mkdir()
    port = free_port()
    store = Store(directory, port, _start(directory, port))
    try:
        yield store
    finally:
        store.kill()


def _start(directory: Path, port: int) -> psutil.Popen:
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", "", "--appendonly", "yes"]
    log = directory / "log"
    with log.open("ab") as output:
        process = psutil.Popen([valkey_binary(), *where], stdout=output, stderr=output)
    wait_ready(process, lambda: answers(f"redis://127.0.0.1:{port}/0"), log, 20, "valkey")
    return process
