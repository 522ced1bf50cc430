"""The models that a monitor run follows: their specs read, and read again when a file has changed.

A spec that cannot be read, that names a model followed already, or whose task is another than that of its model is not followed;
the reason is logged and sent to Sentry once, and the other models are followed.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from monitoring.fleet import Fleet, FollowedModel, MonitorSummary
from perennial.error_reporting import init_error_reporting, report, tag
from perennial.errors import FleetIncomplete, PerennialError, SpecError
from perennial.fleet import spec_files
from perennial.input_contract import contract_changes
from perennial.settings import Settings, load_settings
from perennial.spec import load_spec
from tasks.data.label_source import label_source
from tasks.job import Job

logger = logging.getLogger(__name__)


class FleetReader:
    """Reads the specs of a fleet; call `read` as often as you like."""

    def __init__(self, specs: Iterable[str], settings: Settings, environ: Mapping[str, str]) -> None:
        self._given, self.settings, self._environ = tuple(specs), settings, environ
        self._read: dict[str, tuple[int, FollowedModel]] = {}
        self._broken: dict[str, str] = {}

    def read(self) -> Fleet:
        """The fleet now."""
        models, broken = dict[str, FollowedModel](), dict[str, str]()
        for path in self._files(broken):
            try:
                found = self._model(path)
                if found.spec.name in models:
                    raise SpecError(f"model {found.spec.name} is followed already, from {models[found.spec.name].path}")
                models[found.spec.name] = found
            except PerennialError as error:
                broken[path] = str(error)
                self._tell(path, error)
        self._broken = broken
        return Fleet(tuple(models.values()), broken)

    def _files(self, broken: dict[str, str]) -> tuple[str, ...]:
        files: list[str] = []
        for given in self._given:
            try:
                files += spec_files([given])
            except PerennialError as error:
                broken[given] = str(error)
                self._tell(given, error)
        return tuple(dict.fromkeys(files))

    def _model(self, path: str) -> FollowedModel:
        file = Path(path)
        changed = file.stat().st_mtime_ns if file.exists() else 0
        known = self._read.get(path)
        if known is None or known[0] != changed:
            spec = load_spec(file)
            contract_changes(self.settings.model_home(spec.name), spec, file)  # raises where the task is another one
            job = Job(file.absolute(), spec, self.settings, datetime.now(UTC), environ=self._environ)
            self._read[path] = known = changed, FollowedModel(spec, job.base, path, partial(label_source, job))
        return known[1]

    def _tell(self, path: str, error: PerennialError) -> None:
        if self._broken.get(path) != str(error):
            logger.error("%s is not followed: %s", path, error)
            report(error, group=("monitoring", "spec-broken"))


def open_fleet(specs: str | Iterable[str]) -> FleetReader:
    """The fleet of the Prefect flow run this is called in; its error reports are tagged with the run."""
    from prefect.runtime import flow_run

    settings = load_settings(os.environ)
    init_error_reporting(settings, "flow")
    tag(flow=str(flow_run.get_flow_name()), flow_run=str(flow_run.get_id()), flow_run_url=str(flow_run.get_flow_run_ui_url()))
    return FleetReader([specs] if isinstance(specs, str) else specs, settings, dict(os.environ))


def require_all_followed(summary: MonitorSummary) -> None:
    """Raises FleetIncomplete, so that the run is seen to have failed, where any model or spec could not be followed."""
    if failing := summary.failing:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failing.items())
        raise FleetIncomplete(f"not followed: {reasons}; the other models were")
