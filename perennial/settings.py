"""Settings: what differs between machines, from the environment only, built once by an entry point.

`PERENNIAL_*` variables are ours, and a misspelt one is an error; the tools' own variables keep their names. API keys come from
`PERENNIAL_API_KEYS` and from a file: the service asks for them, our own commands send the first one, no message quotes one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, SecretStr, ValidationError

from perennial.base import MODEL_NAME, FrozenModel
from perennial.durations import Seconds
from perennial.errors import SettingsError
from perennial.spec_policy import MAX_CHALLENGER_SHARE

PREFIX = "PERENNIAL_"
NO_TIME = timedelta()
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # names of this machine, which no client of ours asks through a proxy

FOREIGN = {  # fields that are read from a tool's own variable
    "redis_url": "REDIS_URL",
    "prefect_api_url": "PREFECT_API_URL",
    "wandb_api_key": "WANDB_API_KEY",
    "sentry_dsn": "SENTRY_DSN",
}

SHORTEST_KEY, LONGEST_KEY = 16, 256  # characters: what can be guessed is no key, and a request's head has room for no more

PAGE, REPORTS = "page.html", "reports"  # in a model's home: its page, and the directory of its Evidently reports

Right = Literal["predict", "feedback"]  # what a client may do with a key: ask for predictions, send labels
RIGHTS: tuple[Right, ...] = get_args(Right)
EVERY_MODEL = "*"  # in a key's grant, where it has rights and is for all models

Access = Literal["key", "open", "closed"]  # which clients may read a page: those that may predict, all, none


class Settings(FrozenModel):
    """One machine's settings; every field has a safe default."""

    home: Path = Field(Path("var"), description="directory for state: stack, logs, datasets, archive, reports")
    registry: str = Field("", description="fsspec URL of the model registry (default: `registry` in the home directory)")
    archive: str = Field(
        "",
        description="fsspec URL below which the prediction logs are, in a directory for each model (default: each in its model's "
        "home); every process of a model needs the same",
    )
    dask_scheduler: str = Field(
        "",
        description="where a backtest trains: address of a Dask scheduler (`tcp://host:8786`), or `local` for a process "
        "on each core of this machine (default: threads of the flow's own process)",
    )
    environment: str = Field("local", description="name of the environment, for Sentry and W&B")
    commit: str = Field("", description="commit that this installation was built from, for Sentry; the image sets it")
    host: str = Field("127.0.0.1", description="address the service listens on")
    port: int = Field(8000, ge=0, le=65_535, description="port of the service; `perennial up` takes the next free one")
    workers: int = Field(1, ge=1, le=256, description="worker processes of the service; each answers HTTP and holds the model")
    timeout: Seconds = Field(timedelta(seconds=30), gt=NO_TIME, description="after which a request is given up")
    max_in_flight: int = Field(
        1_024, ge=1, description="most requests in flight at once, shared by the workers; beyond it 503 with `Retry-After`"
    )
    max_rows: int = Field(10_000, ge=1, description="most rows in one request")
    max_body_mb: float = Field(16.0, gt=0, description="largest request body in MB")
    log_full: Literal["fail", "count"] = Field(
        "count", description="when store, memory and disk take no more predictions: fail the request, or answer and count it"
    )
    lame_duck: Seconds = Field(
        timedelta(seconds=0.5),
        ge=NO_TIME,
        le=timedelta(minutes=1),
        description="for which the service still answers after it has said it is not ready",
    )
    challenger: bool = Field(False, description="keep the challenger loaded beside the champion")
    challenger_share: float = Field(
        0.0,
        ge=0,
        le=MAX_CHALLENGER_SHARE,
        description="percent of the rows that the newest challenger answers in the champion's place, chosen by their ids; "
        "`policy.challenger_share` of a spec goes before it",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="keys that clients may send, separated by commas, `KEY@flights+bike` for these models only, "
        "`KEY@flights:predict` or `KEY@*:feedback` for asking or for labels only; without any, no key is asked for",
    )
    api_keys_file: Path | None = Field(None, description="file of such keys, one a line; read again whenever it changes")
    key_requests: int = Field(
        0, ge=0, description="most requests a minute (`POST`) of one API key, in each worker; beyond it 429; 0 is no limit"
    )
    key_rows: int = Field(
        0, ge=0, description="most rows and labels a minute of one API key, in each worker; beyond it 429; 0 is no limit"
    )
    metrics_access: Access = Field(
        "key",
        description="who may read `/metrics`: clients with a key (every client where none is asked for), every client, or none",
    )
    docs_access: Access = Field("key", description="who may read `/docs`, in the same way")
    max_loaded_models: int = Field(
        100,
        ge=1,
        description="most models of a service in memory; beyond it the one that was asked longest ago is unloaded, "
        "and its next request waits until it is loaded again",
    )
    watch_interval: Seconds = Field(
        timedelta(seconds=0.1),
        gt=NO_TIME,
        description="between looks at the champion alias: two small reads, so take more on paid storage",
    )
    keep_unmatched_labels: Seconds = Field(
        timedelta(days=90),
        ge=timedelta(days=1),
        description="for which a label waits for its prediction, from its receipt; then the monitor drops it and counts it",
    )
    training_lease: Seconds = Field(
        timedelta(seconds=30),
        gt=NO_TIME,
        description="after which a run that trains or promotes, and gave no sign of life, counts as dead: another one takes over",
    )
    keep_reports: int = Field(100, ge=1, description="Evidently reports kept of each model, the newest; each is about 0.4 MB")
    keep_datasets: int = Field(
        10,
        ge=1,
        description="datasets kept of each model, the newest, beside those of champion, predecessor, newest challenger, "
        "a version that waits for approval, and the one that retrainings start from",
    )
    standby: bool = Field(
        True,
        description="the worker of `perennial up` keeps a process ready for the next flow run, which takes 225 MB and saves the "
        "run its imports",
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level that is logged")
    wandb_project: str = Field("perennial", description="W&B project")
    wandb_init_timeout: Seconds = Field(timedelta(seconds=20), gt=NO_TIME, description="that W&B may take to start a run")
    redis_url: str | None = Field(None, description="Redis or Valkey to use instead of the embedded one")
    prefect_api_url: str | None = Field(None, description="Prefect API to use instead of the embedded server")
    wandb_api_key: SecretStr | None = Field(None, description="W&B key; without it runs are kept offline")
    sentry_dsn: SecretStr | None = Field(None, description="Sentry DSN; without it errors are only logged")
    traces_sample_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the requests for predictions that are traced to Sentry, as far as the window that they fall into",
    )

    @property
    def registry_url(self) -> str:
        return self.registry or str(self.home.absolute() / "registry")

    def archive_url(self, model: str) -> str | None:
        """Where one model's prediction log is; None where it is in the model's home."""
        return f"{self.archive.rstrip('/')}/{model}" if self.archive else None

    def model_home(self, model: str) -> Path:
        """Directory of one model's state: predictions, labels, windows, reports, datasets."""
        return self.home.absolute() / model


def variable(field: str) -> str:
    return FOREIGN.get(field, PREFIX + field.upper())


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Build the settings; raises SettingsError naming the variable, its value and the fix."""
    names = {variable(field): field for field in Settings.model_fields}
    for name in environ:
        if name.startswith(PREFIX) and name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(names))}"
            raise SettingsError(f"{name} is not a setting of Perennial{hint}")
    given = {field: environ[name] for name, field in names.items() if environ.get(name)}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        wrong = [(str(one["loc"][0]), one["msg"]) for one in error.errors()]
        lines = [f"  {variable(field)}={given[field]!r}: {message}" for field, message in wrong]
        raise SettingsError("settings in the environment are malformed:\n" + "\n".join(lines)) from error


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What an API key opens: some models, or, where `models` is None, the whole service; and what it may do there, or all."""

    models: frozenset[str] | None = None
    rights: frozenset[Right] | None = None

    def may(self, right: Right) -> bool:
        return self.rights is None or right in self.rights

    def may_ask(self, model: str) -> bool:
        """Whether the key opens what is about this model; the empty name is what is about all."""
        return self.models is None or model in self.models

    def __str__(self) -> str:
        return " and ".join(map(repr, sorted(self.models))) if self.models is not None else "all models"

    def joined(self, other: "KeyGrant | None") -> "KeyGrant":
        """What both open; for a key that is given twice. Raises SettingsError where neither is the same of both."""
        if other is None or self == other:
            return self
        if self.models != other.models and self.rights != other.rights:
            raise SettingsError(f"an API key is given for {self} and for {other}, with other rights: give each a key of its own")
        models = None if self.models is None or other.models is None else self.models | other.models
        rights = None if self.rights is None or other.rights is None else self.rights | other.rights
        return KeyGrant(models, rights)


def configured_grants(settings: Settings) -> dict[str, KeyGrant]:
    """Every key with what it opens, those of the environment first, then those of the file, one a line, `#` begins a comment.

    Raises SettingsError when one is unusable or the file cannot be read.
    """
    text, path = settings.api_keys.get_secret_value() if settings.api_keys else "", settings.api_keys_file
    given = _checked(text.split(","), variable("api_keys"))
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path else ()
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"{variable('api_keys_file')}={path} cannot be read ({type(error).__name__}): name a text file"
        raise SettingsError(wrong) from error
    found: dict[str, KeyGrant] = {}
    for key, grant in (*given, *_checked((line.partition("#")[0] for line in lines), str(path))):
        found[key] = grant.joined(found.get(key))
    return found


def configured_keys(settings: Settings) -> tuple[str, ...]:
    """The keys alone, in the same order; raises what `configured_grants` raises."""
    return tuple(configured_grants(settings))


def authorization(settings: Settings, model: str = "") -> dict[str, str]:
    """The headers by which our own commands show the first key that opens what they ask; empty when no key is asked for."""
    grants = configured_grants(settings)
    fitting = [key for key, grant in grants.items() if grant.may_ask(model)]
    whole = [key for key in fitting if grants[key].rights is None]  # a replay sends labels too
    key = next(iter((*whole, *fitting, *grants)), None)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _checked(keys: Iterable[str], where: str) -> tuple[tuple[str, KeyGrant], ...]:
    """Keys as they are written: `KEY`, `KEY@flights+bike`, `KEY@flights:predict`, `KEY@*:feedback`.

    An `@` that neither models nor rights follow is part of the key.
    """
    found = tuple(_split_grant(key.strip()) for key in keys if key.strip())
    for number, (key, _) in enumerate(found, start=1):
        if not SHORTEST_KEY <= len(key) <= LONGEST_KEY or not all("!" <= letter <= "~" for letter in key):
            expected = f"{SHORTEST_KEY} to {LONGEST_KEY} ASCII characters without blanks, such as `openssl rand -hex 24` gives"
            raise SettingsError(f"key {number} of {where} is unusable: expected {expected}")
    return found


def _split_grant(written: str) -> tuple[str, KeyGrant]:
    key, at, grant = written.rpartition("@")
    names, colon, allowed = grant.partition(":")
    models, rights = frozenset(names.split("+")), frozenset(right for right in RIGHTS if right in allowed.split("+"))
    unknown = len(rights) != len(set(allowed.split("+")))
    every = bool(colon) and names == EVERY_MODEL
    if not at or (colon and unknown) or not (every or all(re.fullmatch(MODEL_NAME, name) for name in models)):
        return written, KeyGrant()
    return key, KeyGrant(None if every else models, rights if colon else None)
