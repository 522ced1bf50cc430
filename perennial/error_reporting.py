"""Error reporting: sends errors, check-ins of scheduled runs and steps of traces to the Sentry of the settings, and nothing else.

What leaves the machine is where an error happened and in which model, version and run; never a value of a row. So messages are
withheld unless their class speaks of the machinery only, and what gathers requests, log lines or local variables stays off. The
one thing of a row is the id of a prediction that failed (the tag `prediction`), by which `perennial trace` finds it.

Errors of one cause are one issue, however many there are: they share what was being done, the error's class, and the innermost
function of ours in which it was raised.
"""

import sys
from collections.abc import Mapping
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Literal

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.scrubber import EventScrubber
from sentry_sdk.tracing import Transaction
from sentry_sdk.utils import BadDsn

from perennial import errors
from perennial.redaction import without_credentials
from perennial.settings import Settings
from perennial.version import __version__

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

Tag = str | int | float | None
CheckInStatus = Literal["in_progress", "ok", "error"]
Step = Transaction  # Sentry's word for a step of a trace

_OURS = ["perennial", "service", "monitoring", "tasks", "flows", "deployments"]
_OFF = ["default_integrations", "auto_enabling_integrations", "include_local_variables"]
_OFF += ["auto_session_tracking", "send_client_reports", "propagate_traces", "spotlight"]
_SWITCHED_OFF: Any = dict.fromkeys(_OFF, False)
_KEPT_OF_ALL = {
    *("contexts", "tags", "transaction", "timestamp"),
    *("event_id", "platform", "release", "environment", "server_name", "sdk"),
}
_KEPT = {*_KEPT_OF_ALL, "exception", "fingerprint", "level"}
_KEPT_CONTEXTS = {"runtime", "trace"}
_KEPT_OF_STEP = {*_KEPT_OF_ALL, "type", "transaction_info", "start_timestamp"}
_KEPT_OF_TRACE = {"trace_id", "span_id", "parent_span_id", "op", "status", "origin"}
_KEPT_CHECK_IN = {"event_id", "type", "check_in_id", "monitor_slug", "status", "monitor_config", "release", "environment"}
_SPOKEN = (
    *(errors.SpecError, errors.RegistryError, errors.StoreUnreachable, errors.PrefectUnreachable),
    *(errors.PredictionsLost, errors.StackError, errors.AutomationFailed, errors.RunDied),
    *(OSError, AttributeError, NameError, ImportError, TypeError, NotImplementedError, MemoryError, RecursionError),
)
"""Classes whose messages speak of files, addresses, names and types. Others (a ValueError, a KeyError, an error of polars
or pydantic, our DataError, RequestError and RecordError) quote the value that was wrong."""
_SPOKEN_LIBRARIES = ("httpx", "httpcore")  # not redis: its server quotes the arguments of a command it refuses


def init_error_reporting(settings: Settings, component: str, **tags: Tag) -> None:
    """Send this process's errors to `settings.sentry_dsn`; does nothing without one. SettingsError when it is malformed."""
    if settings.sentry_dsn is None:
        return
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            release=f"perennial@{__version__}" + (f"+{settings.commit[:12]}" if settings.commit else ""),
            environment=settings.environment,
            integrations=[
                AtexitIntegration(callback=lambda _pending, _timeout: None),  # in place of a notice on standard error
                *(DedupeIntegration(), ExcepthookIntegration(), ThreadingIntegration()),
            ],
            in_app_include=_OURS,
            max_request_body_size="never",
            max_breadcrumbs=0,
            event_scrubber=EventScrubber(recursive=True),
            before_send=scrub,
            before_send_transaction=scrub_step,
            traces_sample_rate=0.0,  # the SDK draws nothing: `perennial.tracing` says what is sent
            **_SWITCHED_OFF,
        )
    except BadDsn as error:
        raise errors.SettingsError(f"SENTRY_DSN is not a DSN ({error}); copy it from the project's settings in Sentry") from None
    tag(component=component, **tags)


def tag(**tags: Tag) -> None:
    """Mark every later error of this process, in whichever thread; None takes a mark away."""
    _mark(sentry_sdk.get_global_scope(), tags)


def report(error: BaseException, *, group: tuple[str, ...], **tags: Tag) -> None:
    """Send one error; those of the same `group` and cause become one issue. Returns at once, whether or not it arrives.

    `group` is a fixed word or two, or what an operator named; never anything that a client sent.
    """
    with sentry_sdk.new_scope() as scope:
        scope.fingerprint = [*group, type(error).__name__, *_origin(error)]
        _mark(scope, {"column": getattr(error, "column", None), **tags})
        scope.capture_exception(error)


def check_in(slug: str, run: str, status: CheckInStatus, config: Mapping[str, Any]) -> None:
    """Say that a scheduled run began, or how it ended; `config` has the schedule that Sentry holds it against."""
    from sentry_sdk.crons import capture_checkin

    capture_checkin(monitor_slug=slug, check_in_id=run, status=status, monitor_config=dict(config))  # type: ignore[arg-type]


def start_step(name: str, op: str, after: tuple[str, str] | None = None) -> Step:
    """A step of a trace, sent when the block of it is left; `after` are the ids of a trace that goes on and of its last step."""
    trace, last = after or (None, None)
    step = Step(name=name, op=op, source="task", sampled=True, trace_id=trace, parent_span_id=last)
    sentry_sdk.start_transaction(step)
    return step


def flush(timeout: float = 2.0) -> None:
    """Wait up to `timeout` seconds for what is still to be sent; for the end of a short process."""
    sentry_sdk.flush(timeout)


def scrub(event: "Event", _hint: "Hint") -> "Event | None":
    """Keep of an event what cannot hold a value of a row; one that is neither a check-in nor has an exception is not sent."""
    if event.get("type") == "check_in":
        kept_of_run: Any = {key: value for key, value in event.items() if key in _KEPT_CHECK_IN}
        return kept_of_run  # type: ignore[no-any-return]
    kept: Any = {key: value for key, value in event.items() if key in _KEPT}
    kept["contexts"] = {key: value for key, value in kept.get("contexts", {}).items() if key in _KEPT_CONTEXTS}
    exceptions = (kept.get("exception") or {}).get("values") or []
    for exception in exceptions:
        exception["value"] = _message(exception)
        exception.get("mechanism", {}).pop("data", None)
    return kept if exceptions else None


def scrub_step(event: "Event", _hint: "Hint") -> "Event":
    """Keep of a step of a trace its name, its times, its ids and the tags of the process."""
    kept: Any = {key: value for key, value in event.items() if key in _KEPT_OF_STEP}
    trace = event.get("contexts", {}).get("trace", {})
    kept["contexts"] = {"trace": {key: value for key, value in trace.items() if key in _KEPT_OF_TRACE}}
    return kept  # type: ignore[no-any-return]


def _origin(error: BaseException) -> tuple[str, ...]:
    """The innermost function of ours in which it was raised; not the line, so that a release does not split an issue."""
    places = [(str(frame.f_globals.get("__name__")), frame.f_code.co_name) for frame, _ in walk_tb(error.__traceback__)]
    ours = [f"{module}.{function}" for module, function in places if module.partition(".")[0] in _OURS]
    return tuple(ours[-1:])


def _message(exception: dict[str, Any]) -> str:
    module, name = exception.get("module") or "builtins", exception.get("type") or ""
    found = getattr(sys.modules.get(module), name, None)
    if (isinstance(found, type) and issubclass(found, _SPOKEN)) or module.partition(".")[0] in _SPOKEN_LIBRARIES:
        return without_credentials(str(exception.get("value") or ""))
    frames = (exception.get("stacktrace") or {}).get("frames") or []
    last = ([frame for frame in frames if frame.get("in_app")] or frames or [None])[-1]
    where = f"in {last.get('filename')} line {last.get('lineno')}, {last.get('function')}" if last else "outside any frame"
    return f"message withheld: it may quote a row; raised {where}"


def _mark(scope: sentry_sdk.Scope, tags: dict[str, Tag]) -> None:
    for name, value in tags.items():
        if value is None:
            scope.remove_tag(name)
        else:
            scope.set_tag(name, str(value))
