"""Commands that need no stack: `init`, `examples`, `check` and `predict`, and the arguments that all commands share.

Nothing heavy is imported here, so that `perennial --help` answers at once.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.terminal import make_console, read_settings, run_flow, show

if TYPE_CHECKING:
    from tasks.serving.batch_predict import ScoredTable

Spec = Annotated[Path, Parameter(help="the model spec, such as examples/flights.toml")]

Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="show Prefect's log here instead of in a file")]


def init(
    table: Annotated[str, Parameter(help="file, glob, URL or SQL query; a CSV or Parquet table of what is to be predicted")],
    *,
    target: Annotated[str | None, Parameter(help="column to predict")] = None,
    time: Annotated[str | None, Parameter(help="column with the time at which a row is asked about")] = None,
    time_format: Annotated[str | None, Parameter(help="how it is written: `%d/%m/%Y`, `epoch_s`, `epoch_ms`, ...")] = None,
    time_from_rows: Annotated[str | None, Parameter(help="no time: the rows came in this order, such as 1000/day")] = None,
    id: Annotated[str | None, Parameter(help="column that names a row; `none`: there is none")] = None,  # noqa: A002
    task: Annotated[str | None, Parameter(help="binary, multiclass or regression")] = None,
    positive: Annotated[str | None, Parameter(help="value of a binary target that means true")] = None,
    name: Annotated[str | None, Parameter(help="name of the model (default: that of the table)")] = None,
    connection: Annotated[str | None, Parameter(help="environment variable with the URL of the query's database")] = None,
    out: Annotated[Path | None, Parameter(help="file to write (default: the model's name and .toml, here)")] = None,
    force: Annotated[bool, Parameter(help="write over a file that is there", negative="")] = False,
) -> int:
    """Look at a table and write a spec of it, every key with its reason; asks what the table does not tell.

    Without a terminal what cannot be told is an error that names the option to give: nothing is guessed.
    """
    from deployments.init import describe_proposal, init_spec, terminal_ask
    from tasks.proposal.propose import Wishes

    console, now = make_console(), datetime.now(UTC)
    wishes = Wishes(table, target, time, time_format, time_from_rows, id, task, positive, name, connection)
    file, proposal = init_spec(wishes, out, os.environ, now, terminal_ask(console), force=force)
    for line in describe_proposal(file, proposal, os.environ, now):
        console.print(line, markup=False, highlight=False)
    live = f"perennial check {file}, then perennial up {file} and perennial train {file}"
    past = f"perennial train {file} --until {proposal.middle:%Y-%m-%d}, then perennial replay {file}"
    show({"wrote": str(file), "next": live, "or": f"live through the newer half of the table first: {past}"})
    return 0


def examples(
    directory: Annotated[Path, Parameter(help="where to, made if it is missing")] = Path("examples"),
) -> int:
    """Write the example specs here, flights.toml among them, which explains every key. What is there already is left alone."""
    from deployments.examples import copy_examples

    show(copy_examples(directory).rows())
    return 0


def check(spec: Spec) -> int:
    """Read a spec, its user functions and a sample of its sources, and say what each column holds. Starts and writes nothing."""
    from deployments.check import check_spec
    from perennial.input_contract import changes_of

    console = make_console()
    for part in check_spec(spec, os.environ, datetime.now(UTC)):
        console.print(part, markup=not isinstance(part, str))  # a spec's own words may have brackets
    if changed := changes_of(spec, read_settings()):
        console.print(changed, style="yellow", markup=False)
    show({"next": f"perennial up {spec}, then perennial train {spec}"})
    return 0


def predict(
    spec: Spec,
    source: Annotated[
        str | None, Parameter(help="CSV or Parquet file or URL with the input columns (default: the spec's)")
    ] = None,
    output: Annotated[
        str | None, Parameter(help=".parquet or .csv file to write (default: the model's name and -scores.parquet)")
    ] = None,
    *,
    verbose: Verbose = False,
) -> int:
    """Score a table, or what the spec's own sources hold, with the champion."""
    scored: ScoredTable = run_flow("batch_predict", verbose, spec=str(spec), source=source, output=output).result()
    show(
        {
            "scored": f"{scored.rows:,} rows by version {scored.version}",
            "as null": "\n".join(map(str, scored.problems)),
            "scores": str(scored.file),
        }
    )
    return 0
