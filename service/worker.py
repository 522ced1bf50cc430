"""One inference worker's parts: put together when its process starts, taken apart when it ends."""

import logging
import os
from multiprocessing.util import Finalize
from pathlib import Path

from perennial.error_reporting import init_error_reporting
from perennial.learner import load_learner
from perennial.logs import configure_logging
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.champion import ChampionWatcher, Live
from service.inference import Inference
from service.lean import freeze_heap
from service.metrics import WorkerMetrics
from service.orphan import outlive_signals
from service.prediction_log.log import PredictionLog

FLUSH_PATIENCE = 3.0
"""Seconds in which a worker that ends brings its last predictions to the store, or else to the spool."""

logger = logging.getLogger(__name__)


class Worker:
    """Everything that lives as long as the worker's process."""

    def __init__(self, settings: Settings, spec: ModelSpec, base: Path, store_url: str) -> None:
        self._settings = settings
        self._metrics = WorkerMetrics()
        spool = settings.model_home(spec.name) / "service" / "spool"
        self._log = PredictionLog(store_url, spec.name, spool, full=settings.log_full, observe=self._metrics.logged)
        registry = Registry(settings.registry_url)
        self._champion = ChampionWatcher(
            registry,
            spec.name,
            base,
            on_swap=self._swapped,
            on_refuse=self._metrics.refused,
            beside=settings.challenger,
        )
        self.inference = Inference(spec.name, settings.max_rows, self._champion, self._log, self._metrics)

    def start(self) -> None:
        """Start the threads; afterwards the champion, if there is one, answers."""
        self._log.start()
        self._champion.start(self._settings.watch_interval)
        Finalize(self, self.close, exitpriority=100)
        outlive_signals(self.close)

    def close(self) -> None:
        """Stop watching and flush the log."""
        self._champion.stop()
        self._log.close(FLUSH_PATIENCE)

    def status(self) -> dict[str, int | str | None]:
        """What this worker serves, and who keeps its predictions: the store, the spool, or memory alone."""
        live, challenger, log = self._champion.live, self._champion.challenger, self._log.state()
        status: dict[str, int | str | None] = {
            "version": live.version if live else None,
            "log": log.keeper,
            "log_waiting": log.waiting,
        }
        return status | ({"challenger": challenger.version} if challenger else {})

    def _swapped(self, live: Live) -> None:
        self._metrics.swapped(live.version, live.since.timestamp())


def start_worker(settings: Settings, spec: ModelSpec, base: Path, store_url: str) -> Worker:
    """Make this process an inference worker."""
    configure_logging(settings, "worker")
    init_error_reporting(settings, "service", model=spec.name)
    load_learner(spec.learner).import_for_serving()
    worker = Worker(settings, spec, base, store_url)
    worker.start()
    freeze_heap()
    logger.info("worker %d answers", os.getpid())
    return worker
