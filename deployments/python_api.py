"""The Python API: one model opened by its name or its spec, for notebooks and scripts. `perennial.open` is `open_model`.

    m = perennial.open("flights")
    m.champion.predict(frame)        # a polars frame in, scores and labels out
    m.predictions().collect()        # every prediction with its label
    m.versions(), m.history()        # what was trained, decided and why
    m.trace("UA1545")                # one prediction, back to its data and forward to its truth
    m.train(frame)                   # a training by the real flow, and what came of it

Everything but `train` only reads: the registry, the prediction log and the monitor's results, as they are at the moment of the
call. No service, store or Prefect server has to run. Nothing is kept between two calls, so each sees what is new.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from deployments.model_reference import ModelReference, find_model
from deployments.model_tables import history_table, prediction_table, version_table, window_table
from monitoring.history import model_history
from monitoring.state import load_results
from monitoring.trace import Trace, trace_prediction
from perennial.errors import SpecError, VersionNotFound
from perennial.metrics import Metrics
from perennial.model import Model
from perennial.model_card import ModelCard
from perennial.model_loading import load_card, load_model
from perennial.scored_rows import score_rows
from perennial.settings import load_settings
from tasks.data.column_types import RawTable, column_uses, type_columns

if TYPE_CHECKING:
    from tasks.promotion.gate import Verdict
    from tasks.reporting.training_report import TrainingReport


@dataclass(frozen=True)
class Version:
    """One version of a model, loaded: its files matched their digests and it reproduced the scores stored with it."""

    model: Model

    @property
    def version(self) -> int:
        """Its number in the registry."""
        return self.card.version

    @property
    def card(self) -> ModelCard:
        """Everything about it that is not its estimator: spec, parameters, rows, cause."""
        return self.model.card

    @property
    def metrics(self) -> Metrics:
        """What its judge measured on the newest rows at the training."""
        return self.card.metrics

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Score rows of raw inputs with their event time; one row out for each row in, in the same order.

        Out come the id (where the frame has it), the event time in UTC, `score` (a probability, a value, or for multiclass a list
        with a probability for each of `card.classes`), `label` and `version`. Further columns of the frame are ignored; texts
        are read as a batch prediction reads them, with a warning for those that are read as null. Raises DataError naming column,
        row and value of what does not fit.
        """
        spec = self.card.spec
        source = next(iter(spec.sources.values()))
        typed = type_columns("frame", source, RawTable(frame), column_uses(spec), spec.checks.max_odd_values)
        if typed.odd.height:
            from tasks.data.validate import odd_problems

            for problem in odd_problems(typed.odd):
                warnings.warn(str(problem), stacklevel=2)
        return score_rows(self.model, typed.frame, spec)

    def __repr__(self) -> str:
        return f"<{self.card.name} version {self.version}, trained until {self.card.until:%Y-%m-%d %H:%M}>"


@dataclass(frozen=True)
class Training:
    """What came of a training: the version, and its report with the checks of the rows and the gate's verdict."""

    version: Version
    report: "TrainingReport"

    @property
    def metrics(self) -> Metrics:
        """What its judge measured on the newest rows."""
        return self.version.metrics

    @property
    def verdict(self) -> "Verdict | None":
        """What the gate decided, on which evidence."""
        return self.report.verdict

    def __repr__(self) -> str:
        said = f"{self.verdict.outcome}: {self.verdict.reason}" if self.verdict else "a challenger"
        return f"<training of {self.version.card.name} version {self.version.version}, {said}>"


@dataclass(frozen=True)
class OpenModel:
    """A model to ask about; each call reads anew."""

    reference: ModelReference
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.reference.name

    @property
    def home(self) -> Path:
        """Directory of its prediction log, windows, datasets and reports."""
        return self.reference.home

    @property
    def champion(self) -> Version:
        """The version that serves; raises VersionNotFound before the first training."""
        champion = self.reference.registry.aliases(self.name).champion
        if champion is None:
            raise VersionNotFound(f"{self.name} has no champion yet: run `perennial train {self.reference.written}`")
        return self.version(champion)

    @property
    def challenger(self) -> Version | None:
        """The version that was trained last; None where that is the champion itself, or none was trained."""
        aliases = self.reference.registry.aliases(self.name)
        newest = aliases.challenger
        return None if newest is None or newest == aliases.champion else self.version(newest)

    def version(self, number: int) -> Version:
        """One version; raises VersionNotFound that names those there are, CorruptVersion, FunctionError."""
        return Version(load_model(self.reference.registry, self.name, number, self.reference.base))

    def predictions(self) -> pl.LazyFrame:
        """Every prediction once, by event time, with the label that counts for it.

        Columns: id, event_time, served_at, version, score, label, label_received_at, label_contradicted (an earlier label was
        another one), then the inputs that the newest version knows. A label is null until it has come. What was asked in the
        last seconds is not there yet: the monitor archives it.
        """
        return prediction_table(self.home, self._newest_card(), self.reference.archive_url)

    def windows(self) -> pl.LazyFrame:
        """Every closed window, oldest first: rows, labels, signals and bounds, metrics, the account, the decision, its reason."""
        return window_table(load_results(self.home), self._newest_card().task).lazy()

    def versions(self) -> pl.DataFrame:
        """A row for each version, oldest first: aliases, training, metrics, `promised` and `turned_out`, fingerprints."""
        registry, name = self.reference.registry, self.name
        task, moves = self._newest_card().task, registry.history(name)
        return version_table(self._cards(), registry.aliases(name).positions, moves, load_results(self.home), task)

    def history(self) -> pl.DataFrame:
        """Every window, training, promotion, refusal and rollback in the order of wall time, each with its reason."""
        return history_table(model_history(self.home, self.reference.registry, self.name))

    def trace(self, prediction_id: str, event_time: datetime | None = None) -> Trace:
        """The newest prediction of an id (or that of an event time) with version, data, cause, verdict, label and window.

        Raises PredictionNotFound that says what the log has.
        """
        model = self.reference
        return trace_prediction(self.home, model.registry, self.name, prediction_id, event_time, model.archive_url)

    def train(self, frame: pl.DataFrame) -> Training:
        """Train on this frame by the flow `train`, as `perennial train` does on the spec's sources, and say what came of it.

        The frame stands for the spec's first source; the first version serves at once, a later one unless the gate refuses it.
        Uses the running stack's Prefect server, or one for the time of the training. Raises SpecError where only the model's
        name is known, and what the flow fails with, such as ChecksFailed with every column that is wrong.
        """
        spec = self.reference.spec
        if spec is None:
            raise SpecError(
                f"a training needs the spec of {self.name}: open it by the path, as in perennial.open('{self.name}.toml')"
            )
        with _environment({**self.environ, "PERENNIAL_HOME": str(self.reference.settings.home)}):
            from rich.console import Console

            from deployments import foreground

            foreground.join_stack(self.reference.settings, os.environ)
            parameters = {"spec": str(spec.absolute()), "table": str(_write_table(frame, self.home / "frames"))}
            console = Console(stderr=True)
            state = foreground.run_flow("train", self.reference.settings, console, verbose=False, **parameters)
        from tasks.reporting.training_report import read_training_report

        number: int = state.result()
        return Training(self.version(number), read_training_report(self.home, number))

    def _cards(self) -> list[ModelCard]:
        registry = self.reference.registry
        return [load_card(registry, self.name, version) for version in registry.versions(self.name)]

    def _newest_card(self) -> ModelCard:
        versions = self.reference.registry.versions(self.name)
        if not versions:
            raise VersionNotFound(f"{self.name} has no version yet: run `perennial train {self.reference.written}`")
        return load_card(self.reference.registry, self.name, versions[-1])

    def __repr__(self) -> str:
        aliases = self.reference.registry.aliases(self.name).positions
        return f"<model {self.name} in {self.home}: {', '.join(f'{alias} {number}' for alias, number in aliases.items())}>"


def open_model(model: str | Path, *, home: str | Path | None = None, environ: Mapping[str, str] | None = None) -> OpenModel:
    """Open a model by its name, or by the path of its spec.

    Settings come from the environment as for the command line; `home` stands in for PERENNIAL_HOME. Raises SettingsError,
    SpecError for a path, RegistryError for a name that the registry does not have, with the names that it has.
    """
    environ = os.environ if environ is None else environ
    settings = load_settings(environ if home is None else {**environ, "PERENNIAL_HOME": str(home)})
    return OpenModel(find_model(model, settings), environ)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for a while: a flow reads its settings from the environment of its process."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_table(frame: pl.DataFrame, directory: Path) -> Path:
    """The frame as a Parquet file that is named by its content, so that the same frame is the same file."""
    content = io.BytesIO()
    frame.write_parquet(content)
    file = directory / f"{hashlib.sha256(content.getvalue()).hexdigest()[:16]}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.getvalue())
    return file.absolute()
