"""Every error Perennial raises on purpose: one tree, each class named for what is wrong.

    PerennialError
    ├── SpecError            the model spec cannot be read or makes no sense
    ├── SettingsError        an environment variable is misspelt or malformed
    ├── FunctionError        a user function cannot be found or misbehaves
    ├── DataError            a table does not keep its contract
    │   ├── SourceError      a source cannot be read at all
    │   └── ChecksFailed     a data check failed; the bad rows are in quarantine
    ├── RequestError         a client sent something unusable (HTTP 422)
    ├── RecordError          an entry of the prediction stream cannot be decoded
    ├── TrainingError        a model cannot be fitted from this data
    ├── RegistryError        the registry refuses or fails
    │   ├── VersionNotFound  no such version or alias
    │   ├── CorruptVersion   files do not match their recorded digests
    │   └── AliasConflict    another promoter moved the alias first
    ├── StoreUnreachable     Redis or Valkey does not answer
    ├── PredictionsLost      predictions were answered and are in no log
    ├── ArchiveError         the prediction log cannot be written or read
    ├── NewerFormat          a file or a stream entry was written by a newer release
    ├── PrefectUnreachable   the Prefect API does not answer
    └── StackError           a part of the local stack cannot start or stop

The message always names the thing (column, value, file, address) and the fix.
"""


class PerennialError(Exception):
    """The root of the tree; catch it to catch everything Perennial raises on purpose."""


class SpecError(PerennialError):
    """The model spec cannot be read or makes no sense."""


class SettingsError(PerennialError):
    """An environment variable is misspelt or malformed."""


class FunctionError(PerennialError):
    """A user function cannot be found or misbehaves."""


class DataError(PerennialError):
    """A table does not keep its contract."""


class SourceError(DataError):
    """A source cannot be read at all."""


class ChecksFailed(DataError):
    """A data check failed; the message lists every bad column, the bad rows are in quarantine."""


class RequestError(PerennialError):
    """A client sent something unusable; `row` and `column` say where, when they are known."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.column = column


class RecordError(PerennialError):
    """An entry of the prediction stream cannot be decoded."""


class TrainingError(PerennialError):
    """A model cannot be fitted from this data."""


class RegistryError(PerennialError):
    """The registry refuses or fails."""


class VersionNotFound(RegistryError):
    """No such version or alias."""


class CorruptVersion(RegistryError):
    """A version's files do not match their recorded digests."""


class AliasConflict(RegistryError):
    """Another promoter moved the alias first; read it again and decide anew."""


class StoreUnreachable(PerennialError):
    """Redis or Valkey does not answer."""


class PredictionsLost(PerennialError):
    """Predictions were answered and are in no log: a process was killed, or store and disk were away together."""


class ArchiveError(PerennialError):
    """The prediction log cannot be written or read."""


class NewerFormat(PerennialError):
    """A file or a stream entry was written by a newer release, whose format this one does not know."""


class PrefectUnreachable(PerennialError):
    """The Prefect API does not answer."""


class StackError(PerennialError):
    """A part of the local stack cannot start or stop."""
