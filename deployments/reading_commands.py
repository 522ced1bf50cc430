"""Commands that only read what is on disk about a model: `labels`, `history`, `trace` and `export`. The command line adds them.

They are written as those of `deployments.cli`: each reads its arguments, calls another module and prints.
"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.terminal import make_console, print_json, read_settings, show

ModelOrSpec = Annotated[str, Parameter(help="a model's name, or the path of its spec")]

Json = Annotated[bool, Parameter(help="print JSON, for other programs", negative="")]

LONGEST_LINE = 10_000  # characters


def labels(
    spec: Annotated[Path, Parameter(help="the model spec, such as examples/flights.toml")],
    *,
    unmatched: Annotated[bool, Parameter(help="list each of the latter two", negative="")] = False,
) -> int:
    """Count the labels that came, and those that no prediction has or that a later label of the same prediction contradicts."""
    from deployments.labels import label_report

    make_console().print(*label_report(spec, read_settings(), unmatched=unmatched), sep="\n", markup=False, highlight=False)
    return 0


def history(model: ModelOrSpec, *, json: Json = False) -> int:
    """Show all that happened to a model, newest last: windows, trainings, promotions, refusals, rollbacks, with reasons."""
    from deployments import history as shown

    entries = shown.read_history(model, read_settings())
    if json:
        print_json(shown.history_json(entries))
        return 0
    if entries:
        # Elsewhere than on a terminal an entry is one line, however long, for `grep` and `less`.
        make_console(None if sys.stdout.isatty() else LONGEST_LINE).print(shown.history_rows(entries))
    make_console().print(shown.history_end(entries, model), markup=False, highlight=False)
    return 0


def trace(
    model: ModelOrSpec,
    prediction: Annotated[str, Parameter(help="the id of the prediction")],
    *,
    event_time: Annotated[str | None, Parameter(help="which of several of this id (ISO 8601; default: newest)")] = None,
    json: Json = False,
) -> int:
    """Follow one prediction to its version, data, spec, code, cause and verdict, and to its label and its window's decision."""
    from deployments import history as shown

    found = shown.read_trace(model, prediction, event_time, read_settings())
    if json:
        print_json(shown.trace_json(found))
    else:
        show({**shown.trace_rows(found), "next": f"perennial history {model}   (all that happened to the model)"})
    return 0


def export(
    model: ModelOrSpec,
    *,
    onnx: Annotated[Path, Parameter(help="ONNX file to write")],
    version: Annotated[int | None, Parameter(help="version to export (default: the champion)")] = None,
) -> int:
    """Write a version as an ONNX file for other runtimes, after its scores were found equal on the reference rows.

    Takes the libraries of the extra `onnx`. The file takes encoded rows; its metadata says how a row is encoded.
    """
    from deployments.export import export_rows

    show(export_rows(model, onnx, version, read_settings()))
    return 0
