"""The key ring: which API keys open the service now, and for which models.

A changed file of keys counts within a second, without a restart. Keys are kept and compared as digests, all of them on every
request, so that the time it takes says nothing about any.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from datetime import timedelta

from perennial.errors import SettingsError
from perennial.settings import KeyGrant, Settings, configured_grants

CHECK_INTERVAL = timedelta(seconds=1)  # between two looks at the file of keys: one `stat`, made by a request that comes by

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None


class ApiKeyRing:
    """One per worker. Once a file is named a key is asked for, even when the file holds none: an emptied file locks."""

    def __init__(self, settings: Settings, names: Sequence[str] = ()) -> None:
        self._settings, self._file, self._names = settings, settings.api_keys_file, frozenset(names)
        self._stamp = self._read_stamp()
        self._grants = self._read_grants()
        self._next_look = time.monotonic() + CHECK_INTERVAL.total_seconds()
        self.required = self._file is not None or bool(self._grants)

    def find(self, key: bytes) -> KeyGrant | None:
        """What a key opens; None where it is unknown."""
        if self._file is not None and time.monotonic() >= self._next_look:
            self._look()
        shown, found = hashlib.sha256(key).digest(), None
        for digest, grant in self._grants:
            if hmac.compare_digest(shown, digest):
                found = grant
        return found

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read leaves the keys as they are."""
        self._next_look = time.monotonic() + CHECK_INTERVAL.total_seconds()
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._grants = self._read_grants()
        except SettingsError as error:
            logger.error("the API keys stay as they were: %s", error)
            return
        logger.info("API keys read again: %d", len(self._grants))

    def _read_stamp(self) -> _Stamp:
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read_grants(self) -> tuple[tuple[bytes, KeyGrant], ...]:
        """Digests and what they open; a key for every model that is served here opens all."""
        found = []
        for key, grant in configured_grants(self._settings).items():
            if grant.models is not None and self._names:
                if unknown := sorted(grant.models - self._names):
                    logger.warning("an API key is for %s, which this service does not serve", ", ".join(unknown))
                if self._names <= grant.models:
                    grant = KeyGrant(rights=grant.rights)
            found.append((hashlib.sha256(key.encode()).digest(), grant))
        return tuple(found)
