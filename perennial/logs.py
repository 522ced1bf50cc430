"""Logging: one line per record on standard error, in UTC, never with a password in it.

Modules say `logging.getLogger(__name__)`; only entry points call `configure_logging`.
"""

import logging
import sys
import time

from perennial.redaction import without_credentials
from perennial.settings import Settings

_CHATTY = ("httpx", "httpcore", "urllib3", "fsspec", "asyncio", "matplotlib")  # at INFO they log each request or file


def configure_logging(settings: Settings, component: str) -> None:
    """Send the process's log records to standard error, each with `component`; a second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(component))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, LineFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))


class LineFormatter(logging.Formatter):
    """`2013-03-01T05:15:00Z WARNING service service.server: message`."""

    converter = staticmethod(time.gmtime)

    def __init__(self, component: str) -> None:
        prefix = component.replace("%", "%%")
        super().__init__(f"%(asctime)sZ %(levelname)s {prefix} %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))
