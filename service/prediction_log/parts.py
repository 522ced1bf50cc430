"""What a log, its publisher and its spooler share: the buffer, the disk queue, the progress file and who is told of changes."""

from collections.abc import Callable
from dataclasses import dataclass

from service.prediction_log.buffer import Buffer
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.progress_file import ProgressFile


@dataclass(frozen=True, slots=True)
class LogParts:
    """`on_change` is called after each round of the publisher and each commit to disk."""

    buffer: Buffer
    queue: DiskQueue
    progress: ProgressFile
    on_change: Callable[[], None]
