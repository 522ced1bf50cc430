"""The job: one model's spec, where it was found, and the settings of this process, opened once per flow run.

A task reads its surroundings here and not from the environment. `now` is the start of the run; a task that records the moment
at which something happened (a version, an alias move, an event) takes the clock's.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from monitoring.training_lease import training_lease
from perennial.input_contract import contract_changes
from perennial.learners.declarations import PASSIVE_OPENMP
from perennial.registry import Registry
from perennial.settings import Settings, load_settings
from perennial.spec import ModelSpec, load_spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a flow run works on; `environ` is kept out of its representation, for it may hold passwords.

    `threads` are those that one training may use. With the `token` of its claim to train the model, a job that another run
    has succeeded publishes and promotes no more. `planned` is the moment of a training by the clock.
    """

    path: Path
    spec: ModelSpec
    settings: Settings
    now: datetime
    run_id: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    token: int | None = None
    planned: datetime | None = None

    @property
    def base(self) -> Path:
        """Directory that paths and functions in the spec are relative to."""
        return self.path.parent

    @property
    def home(self) -> Path:
        """Directory of this model's state."""
        return self.settings.model_home(self.spec.name)

    @property
    def archive_url(self) -> str | None:
        """Where this model's prediction log is; None where it is in its home."""
        return self.settings.archive_url(self.spec.name)

    @property
    def registry(self) -> Registry:
        """The registry that holds this model's versions."""
        return Registry(self.settings.registry_url, self.token)


def load_job(spec: str | Path, environ: Mapping[str, str], now: datetime, run_id: str | None = None) -> Job:
    """Read the spec and the settings; raises SpecError and SettingsError."""
    path = Path(spec).absolute()
    return Job(path, load_spec(path), load_settings(environ), now, run_id, environ)


def open_job(spec: str) -> Job:
    """Open the job of the Prefect flow run this is called in; the run and its error reports are tagged with the model."""
    from prefect.runtime import flow_run

    from perennial.error_reporting import init_error_reporting, tag

    os.environ.setdefault(*PASSIVE_OPENMP)  # before anything below loads a learner's library
    init_error_reporting(load_settings(os.environ), "flow")  # first, so that a spec that cannot be read is reported too
    job = load_job(spec, dict(os.environ), datetime.now(UTC), flow_run.get_id())
    contract_changes(job.home, job.spec, job.path)  # raises where the task is another one
    name, url = str(flow_run.get_flow_name()), str(flow_run.get_flow_run_ui_url())
    tag(model=job.spec.name, flow=name, flow_run=str(job.run_id), flow_run_url=url)
    _tag_run(job)
    return job


@contextmanager
def open_training(spec: str, scheduled: bool | str = False) -> Iterator[Job]:
    """Open the job of a flow run that trains or promotes: it waits for one that is at work on the model.

    One that is `scheduled` was planned for its run's own moment, or for the one given.
    """
    from prefect.runtime import flow_run

    job = replace(open_job(spec), planned=planned_moment(scheduled, flow_run.get_scheduled_start_time()))
    run = job.run_id or f"process-{os.getpid()}"
    with training_lease(job.registry, job.home, job.spec.name, run, job.settings.training_lease) as token:
        yield replace(job, token=token)


def planned_moment(scheduled: bool | str, expected: datetime | None) -> datetime | None:
    """The moment that a training by the clock was planned for; None for one that was asked for."""
    return datetime.fromisoformat(scheduled) if isinstance(scheduled, str) else expected if scheduled else None


def _tag_run(job: Job) -> None:
    """Tag the flow run with its model, by which the Prefect UI filters: the deployments are those of all models."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if job.run_id is None or job.spec.name in (tags := flow_run.get_tags()):
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(job.run_id), tags=[*tags, job.spec.name])
    except Exception as error:  # noqa: BLE001 - whatever the client raises, the run can do its work without a tag
        logger.warning("flow run %s is not tagged with its model: %s", job.run_id, error)
