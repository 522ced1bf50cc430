"""Commands that start and end the local stack: `up` and `down`. The command line adds them.

They are written as those of `deployments.cli`: each reads its arguments, calls another module and prints.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.terminal import make_console, read_settings


def up(
    *specs: Annotated[Path, Parameter(help="model specs, or directories of them: every .toml file in it")],
    challenger_share: Annotated[
        float | None,
        Parameter(help="percent of the rows, 0 to 50, that the newest challenger answers; a change starts the service anew"),
    ] = None,
    triage: Annotated[
        bool, Parameter(help="run Bugsink too, which gets every error report (installs it the first time)", negative="")
    ] = False,
) -> int:
    """Start the stack for specs, deploy the flows, and wait until every part is healthy.

    Safe to repeat: what runs is left alone. Another model is added to those that run: it is served by the same service, which
    refuses no request meanwhile, and followed by the same monitor.
    """
    from deployments.terminal import bring_up

    return bring_up(specs, challenger_share, triage=triage)


def down() -> int:
    """End every process of the stack, in order. State stays under the home directory."""
    from deployments.stack import stack as stacks
    from deployments.stack.status import StackProgress

    console = make_console()
    with StackProgress(console) as progress:
        ended = stacks.down(read_settings(), progress)
    if not ended:
        console.print("nothing was running")
    return 0
