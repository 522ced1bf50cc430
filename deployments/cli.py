"""The command line: `perennial COMMAND`. Each command reads its arguments, calls one function of another module and prints.

Nothing heavy is imported here, so that `perennial --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.interrupts import came_of_interrupt, repeat_dropped_interrupts
from deployments.mending_commands import dead_letters, doctor
from deployments.reading_commands import export, history, labels, trace
from deployments.stack_commands import down, up
from deployments.table_commands import Spec, Verbose, check, examples, init, predict
from deployments.terminal import announce, make_console, read_settings, run_flow, show, show_backtest, show_training
from perennial.errors import PerennialError
from perennial.version import __version__

INTERRUPTED = 130
"""What a shell expects of a command ended by Ctrl-C."""

HELP = """Tabular models that keep themselves fresh: watched, retrained when it pays, gated and hot-swapped.

A model is one TOML file, its SPEC; examples/flights.toml explains every key. A first evening:

    perennial init TABLE                    # a spec of your own table
    perennial examples                      # or those that the documentation speaks of, in examples/
    perennial check examples/flights.toml   # is the spec right?
    perennial up examples/flights.toml      # store, Prefect, worker and service on this machine
    perennial train examples/flights.toml   # the first champion; it is served at once
    perennial status                        # what runs where
    perennial down                          # ends all of it; var/ keeps the state

Settings come from the environment: PERENNIAL_HOME, PERENNIAL_PORT, ... and REDIS_URL, PREFECT_API_URL, WANDB_API_KEY
and SENTRY_DSN, each of which replaces the part that otherwise runs here or stays offline.
"""

app = App(
    name="perennial",
    help=HELP,
    version=__version__,
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

contract = App(name="contract", help="The form of rows that a service takes.")
app.command(contract)
for command in (up, down, init, examples, check, predict, labels, history, trace, dead_letters, doctor, export):
    app.command(command)


@app.command
def status() -> int:
    """Show each part of the stack, what each model's newest window led to, and automations that failed.

    Exit code 1 when a part is not well.
    """
    from deployments.terminal import show_status

    return show_status()


@app.command
def ui(
    spec: Annotated[Path | None, Parameter(help="whose page (default: of each model of the running stack)")] = None,
    *,
    browse: Annotated[bool, Parameter(name="--open", help="open it in a browser", negative="")] = False,
) -> int:
    """Draw the page of a model anew from its files, and say where it is: the file, and the address at which it is served.

    The monitor draws it whenever a window closes. With API keys a browser asks for a password: a key, with any name.
    """
    from deployments.terminal import show_pages

    return show_pages(spec, browse=browse)


@app.command
def models(
    *, as_json: Annotated[bool, Parameter(name="--json", help="one JSON array, for programs", negative="")] = False
) -> int:
    """List the models of the stack: champion and its age, account against cost, last decision, rows and requests."""
    from deployments.terminal import show_models

    return show_models(as_json=as_json)


@app.command
def remove(
    model: Annotated[str, Parameter(help="name of the model, as `perennial models` lists it")],
    *,
    yes: Annotated[bool, Parameter(help="do not ask", negative="")] = False,
) -> int:
    """Stop serving and following a model, and delete its state, its streams and its versions; the others are not touched.

    What is deleted is shown first. The service and the clock of its trainings let go of it at once. The spec and the tables stay.
    """
    from deployments.terminal import remove_model

    return remove_model(model, yes=yes)


@app.command
def forget(
    model: Annotated[str, Parameter(help="a model's name, or the path of its spec")],
    *,
    id: Annotated[str | None, Parameter(help="forget the predictions and labels of this id")] = None,  # noqa: A002
    before: Annotated[str | None, Parameter(help="forget those of before this moment (ISO 8601, event time)")] = None,
    yes: Annotated[bool, Parameter(help="delete; without it nothing is touched", negative="")] = False,
) -> int:
    """Delete a person's rows, or all older ones: of the prediction log, the streams, the datasets and the reports.

    What goes is shown first, and what stays: what versions have learnt cannot be taken out of them. The monitor pauses for it.
    """
    from deployments.terminal import forget_rows

    return forget_rows(model, id, before, yes=yes)


@app.command
def deploy(*specs: Spec) -> int:
    """Deploy the flows to the running stack, or to the Prefect API of PREFECT_API_URL (Cloud included).

    There is one set of deployments for all models: these specs are followed beside those deployed before. It writes a
    prefect.yaml and runs the real `prefect deploy --all` on it.
    """
    from deployments.stack.stack import deploy_fleet, running_stack

    settings = read_settings()
    file = deploy_fleet(specs, running_stack(settings), settings, os.environ, Path.cwd())
    make_console().print(f"deployed; the file that was applied: {file}")
    return 0


@app.command
def train(
    spec: Spec,
    *,
    until: Annotated[str | None, Parameter(help="use rows before this time only (ISO 8601)")] = None,
    verbose: Verbose = False,
) -> int:
    """Train a model on its sources in this process, and make it champion if it is the first."""
    return show_training(spec, run_flow("train", verbose, spec=str(spec), until=until))


@app.command
def retrain(spec: Spec, *, verbose: Verbose = False) -> int:
    """Train a challenger on all that is known by now, as the automation does; `policy.promote = "always"` promotes it too."""
    return show_training(spec, run_flow("retrain", verbose, spec=str(spec), event=None))


@app.command
def backtest(
    spec: Spec,
    *,
    start: Annotated[str | None, Parameter(help="where lives begin (ISO 8601; default: after a sixth of the history)")] = None,
    label_delay: Annotated[str | None, Parameter(help="how long after its event a label comes (default: lateness)")] = None,
    data: Annotated[tuple[str, ...], Parameter(help="a further data mode to compare: all, trailing or weighted")] = (),
    write: Annotated[bool, Parameter(help="put the recommended sections into the spec", negative="")] = False,
    verbose: Verbose = False,
) -> int:
    """Live through the sources' history under many policies, and say which one to write into the spec.

    A model is trained for each window, so it takes minutes; what is trained is kept, and a second run goes on from there.
    """
    given = {"start": start, "label_delay": label_delay, "data": data}
    return show_backtest(spec, run_flow("backtest", verbose, spec=str(spec), **given), write=write)


@app.command
def rollback(
    spec: Spec, *, to: Annotated[int | None, Parameter(help="version to serve (default: the previous champion)")] = None
) -> int:
    """Make an earlier version champion again; the service swaps within seconds."""
    from deployments.alias_moves import roll_back

    settings = read_settings()
    move = roll_back(spec, to, settings, datetime.now(UTC))
    untold = announce(move)
    from deployments.summary import rollback_rows  # imports Prefect, which reads the environment that was joined

    show({**rollback_rows(move, spec, settings), "event": untold})
    return 0


@app.command
def promote(spec: Spec, *, verbose: Verbose = False) -> int:
    """Make a version champion that knows all labelled rows, trained first where there is none, unless the gate refuses."""
    return show_training(spec, run_flow("promote", verbose, spec=str(spec), event=None))


@app.command
def approve(spec: Spec) -> int:
    """Make the version champion that the gate let through and that waits for a person (`gate.require_approval`)."""
    from deployments import alias_moves

    move = alias_moves.approve(spec, read_settings(), datetime.now(UTC))
    was = f"{move.model} version {move.version} (was {move.previous})"
    show({"champion": was, "reason": move.reason, "event": announce(move)})
    return 0


@contract.command
def close(spec: Spec) -> int:
    """Stop accepting rows in the form of earlier champions, once every client writes them as the champion takes them.

    GET /model says under `rows` how many rows still come in another form.
    """
    from deployments.alias_moves import close_contract

    version = close_contract(spec, read_settings(), datetime.now(UTC))
    make_console().print(f"rows are accepted as version {version} takes them, and as later versions will")
    return 0


@app.command
def feedback(
    spec: Spec,
    file: Annotated[str, Parameter(help="CSV or Parquet file or URL: a row is an id, its label, and perhaps a time")],
    *,
    id_: Annotated[str | None, Parameter(name="--id", help="its column of ids (default: `id`, else the spec's)")] = None,
    label: Annotated[str | None, Parameter(help="its column of labels (default: `label`, else the target)")] = None,
    time: Annotated[str | None, Parameter(help="its column of times (default: `event_time`, else the spec's)")] = None,
) -> int:
    """Send the labels of a table, as a client would by `/feedback`; the service need not run.

    What is known already is not sent again. Rows that are no labels are named, the others are sent; then the exit code is 1.
    """
    from deployments.feedback import send_feedback

    columns = {"id": id_, "label": label, "time": time}
    found = send_feedback(spec, file, columns, read_settings(), os.environ, datetime.now(UTC))
    show(found.rows(spec))
    return 1 if found.table.refused else 0


@app.command
def replay(
    spec: Spec,
    *,
    start: Annotated[str | None, Parameter(help="first event time (ISO 8601; default: after the champion's rows)")] = None,
    until: Annotated[str | None, Parameter(help="event time to stop before (default: the end of the table)")] = None,
    label_delay: Annotated[str | None, Parameter(help="how long after its event a label is sent (default: lateness)")] = None,
    free_running: Annotated[bool, Parameter(help="as fast as the service answers: for load", negative="")] = False,
) -> int:
    """Live through past rows of the spec's own table over HTTP: questions, then their labels as they fell due.

    After each window it waits until the monitor has judged it, and the training or promotion that it asks for has ended, so
    that what happens is what would have happened. Ctrl-C ends it; a second call goes on, and rows that are sent again count once.
    """
    from deployments.terminal import replay_table

    return replay_table(spec, start=start, until=until, label_delay=label_delay, free_running=free_running)


@app.command
def serve(spec: Spec) -> int:
    """Serve a spec's champion in the foreground, with the store of the running stack or of REDIS_URL."""
    from deployments.namesakes import refuse_namesakes
    from deployments.stack.stack import environment_of, refuse_taken_port

    refuse_namesakes(Path.cwd())
    refuse_taken_port(read_settings())
    environment = environment_of(read_settings(), os.environ)
    os.execve(sys.executable, [sys.executable, "-m", "service", "--spec", str(spec)], environment)  # noqa: S606 - no shell wanted


@app.command
def demo(
    *,
    until: Annotated[datetime | None, Parameter(help="last day to live through, such as 2013-06-30")] = None,
    keep: Annotated[bool, Parameter(help="leave the stack up afterwards", negative="")] = False,
    quick: Annotated[bool, Parameter(help="to 30 April only: a few minutes", negative="")] = False,
    on: Annotated[str | None, Parameter(help="on services that run already: the URL at which flights answers there")] = None,
) -> int:
    """Live through a year of flights: predictions, late labels, drift, retraining, promotion, all by themselves.

    It brings up a stack of its own. With `--on` it starts and ends nothing: REDIS_URL, PREFECT_API_URL, PERENNIAL_HOME and the
    like are those of the services, and `perennial deploy` has deployed the flights there; docs/clusters.md has such a loop.
    """
    from deployments.foreground import make_prefect_home

    settings = read_settings()
    # The driver imports tasks, which import Prefect; it reads these at import: no telemetry, no files elsewhere.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_HOME", str(settings.home.absolute() / "prefect"))
    make_prefect_home(os.environ)
    from deployments.demo.demo import replay_end, run_demo, run_demo_on

    end, console = replay_end(until, quick=quick), make_console()
    return run_demo_on(on, settings, os.environ, end, console) if on else run_demo(settings, os.environ, end, keep, console)


@app.command
def version() -> int:
    """Print the version."""
    make_console().print(__version__, highlight=False)
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. An error a person can fix is one message, never a traceback."""
    from deployments.proxies import direct_loopback, named_proxy

    try:
        os.environ.update(direct_loopback(os.environ))
        return int(app(list(arguments)) or 0)
    except PerennialError as error:
        sys.stderr.write(f"error: {error}{named_proxy(str(error))}\n")
        return 1
    except BaseException as error:
        if not came_of_interrupt(error):
            raise
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def main() -> None:
    """The `perennial` command."""
    repeat_dropped_interrupts()
    sys.exit(run(sys.argv[1:]))
