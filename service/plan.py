"""What the main process and its workers agree on: what is served, and how long a worker may take to end."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from perennial.settings import Settings
from perennial.spec import ModelSpec

DRAIN_TIMEOUT = timedelta(seconds=4)  # for requests in flight when the service ends
FLUSH_TIMEOUT = timedelta(seconds=3)  # in which a worker that ends brings its last predictions to the store, or else to the disk


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to serve; travels to the workers by pickle. `base` is the spec's directory, for user functions."""

    settings: Settings
    spec: ModelSpec
    base: Path
    store_url: str
