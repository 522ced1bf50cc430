"""The key ring: which API keys open the service now. A changed file of keys counts within a second, without a restart.

Keys are kept and compared as digests, all of them on every request, so that the time it takes says nothing about any.
"""

import hashlib
import hmac
import logging
import time
from datetime import timedelta

from perennial.errors import SettingsError
from perennial.settings import Settings, configured_keys

CHECK_INTERVAL = timedelta(seconds=1)  # between two looks at the file of keys: one `stat`, made by a request that comes by

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None


class ApiKeyRing:
    """One per worker. Once a file is named a key is asked for, even when the file holds none: an emptied file locks."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._file = settings, settings.api_keys_file
        self._stamp = self._read_stamp()
        self._digests = _digests(settings)
        self._next_look = time.monotonic() + CHECK_INTERVAL.total_seconds()
        self.required = self._file is not None or bool(self._digests)

    def admits(self, key: bytes) -> bool:
        if self._file is not None and time.monotonic() >= self._next_look:
            self._look()
        shown, found = hashlib.sha256(key).digest(), False
        for digest in self._digests:
            found |= hmac.compare_digest(shown, digest)
        return found

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read leaves the keys as they are."""
        self._next_look = time.monotonic() + CHECK_INTERVAL.total_seconds()
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._digests = _digests(self._settings)
        except SettingsError as error:
            logger.error("the API keys stay as they were: %s", error)
            return
        logger.info("API keys read again: %d", len(self._digests))

    def _read_stamp(self) -> _Stamp:
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def _digests(settings: Settings) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(key.encode()).digest() for key in configured_keys(settings))
