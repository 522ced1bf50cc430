"""Every error Perennial raises on purpose: one tree, each class named for what is wrong.

    PerennialError
    ├── SpecError            the model spec cannot be read or makes no sense
    ├── SettingsError        an environment variable is misspelt or malformed
    ├── FunctionError        a user function cannot be found or misbehaves
    ├── DataError            a table does not keep its contract
    │   ├── SourceError      a source cannot be read at all
    │   └── ChecksFailed     a data check failed: the message lists every bad column, the bad rows are in quarantine
    ├── RequestError         a client sent something unusable (HTTP 422)
    ├── RecordError          an entry of the prediction stream cannot be decoded
    ├── TrainingError        a model cannot be fitted from this data
    ├── RegistryError        the registry refuses or fails
    │   ├── VersionNotFound  no such version or alias
    │   ├── CorruptVersion   files do not match their recorded digests
    │   ├── AliasConflict    another promoter moved the alias first: read it again and decide anew
    │   ├── StaleToken       another run has claimed the training of the model since: this one may publish and promote no more
    │   └── VersionWithdrawn the version was rolled back, and only a person makes it champion again
    ├── StoreUnreachable     Redis or Valkey does not answer
    ├── StorageUnreachable   an object store, such as S3, does not answer
    ├── PredictionsLost      predictions were answered and are in no log: a process was killed, or store and disk failed together
    ├── ArchiveError         the prediction log cannot be written or read
    │   └── PredictionNotFound  the prediction log has no prediction of this id
    ├── FleetIncomplete      models of a monitor run could not be followed
    ├── NewerFormat          a file or a stream entry was written by a newer release
    ├── ExportError          a model has no form in another runtime, or would score otherwise there
    ├── PrefectUnreachable   the Prefect API does not answer
    ├── AutomationFailed     an automation fired, and its action did not happen
    ├── RunDied              a flow run gave no sign of life and has no outcome
    └── StackError           a part of the local stack cannot start or stop

The message always names the thing (column, value, file, address) and the fix.
"""

SET_ASIDE = "`perennial doctor --repair` sets it aside"  # how a person does without a damaged file that nothing rebuilds


class PerennialError(Exception):
    """The root of the tree; catch it to catch everything Perennial raises on purpose."""


class SpecError(PerennialError): ...


class SettingsError(PerennialError): ...


class FunctionError(PerennialError): ...


class DataError(PerennialError): ...


class SourceError(DataError): ...


class ChecksFailed(DataError): ...


class RequestError(PerennialError):
    """A client sent something unusable; `row` and `column` say where, when they are known."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.column = column


class RecordError(PerennialError): ...


class TrainingError(PerennialError): ...


class RegistryError(PerennialError): ...


class VersionNotFound(RegistryError): ...


class CorruptVersion(RegistryError): ...


class AliasConflict(RegistryError): ...


class StaleToken(RegistryError): ...


class VersionWithdrawn(RegistryError): ...


class StoreUnreachable(PerennialError): ...


class StorageUnreachable(PerennialError): ...


class PredictionsLost(PerennialError): ...


class ArchiveError(PerennialError): ...


class PredictionNotFound(ArchiveError): ...


class FleetIncomplete(PerennialError): ...


class NewerFormat(PerennialError): ...


class ExportError(PerennialError): ...


class PrefectUnreachable(PerennialError): ...


class AutomationFailed(PerennialError): ...


class RunDied(PerennialError): ...


class StackError(PerennialError): ...
