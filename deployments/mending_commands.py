"""Commands that look for what is damaged or was put aside, and mend it. The command line adds them.

They are written as those of `deployments.cli`: each reads its arguments, calls another module and prints.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from deployments.reading_commands import LONGEST_LINE, ModelOrSpec
from deployments.terminal import make_console, read_settings


def dead_letters(
    model: ModelOrSpec,
    *ids: Annotated[str, Parameter(help="of the entries that are meant, as the list has them")],
    show: Annotated[bool, Parameter(help="print the entries whole", negative="")] = False,
    resend: Annotated[
        bool, Parameter(help="put them back into their streams, for the monitor to read again", negative="")
    ] = False,
    delete: Annotated[bool, Parameter(help="delete them for good", negative="")] = False,
    every: Annotated[bool, Parameter(name="--all", help="all of them instead of IDs", negative="")] = False,
) -> int:
    """List the stream entries that the monitor could not read and has put aside: when, why, and the beginning of their text.

    Send them again after what was wrong is mended: after an upgrade, where a newer release wrote them, or a corrected spec.
    """
    from deployments import dead_letters as letters

    if resend and delete:
        from perennial.errors import RecordError

        raise RecordError("--resend or --delete, not both")
    if resend or delete:
        found = letters.dispose(model, ids, "sent again" if resend else "deleted", read_settings(), os.environ, every=every)
    else:
        found = letters.dead_letters(model, ids, read_settings(), os.environ)
    if show:
        for letter in found.found:
            make_console().out(f"{letter.id} {letter.stream} {letter.entry}: {letter.reason}\n{letter.text}", highlight=False)
    elif found.found and not found.done:
        make_console(None if sys.stdout.isatty() else LONGEST_LINE).print(found.table())
    make_console().print(found.end(), markup=False, highlight=False)
    return 0


def doctor(
    model: Annotated[str | None, Parameter(help="a model's name, or the path of its spec (default: all, and the stack)")] = None,
    *,
    repair: Annotated[bool, Parameter(help="mend what needs no decision of a person", negative="")] = False,
) -> int:
    """Look at every file that outlives a process; of each damaged one say what is wrong and which command mends it.

    A repair deletes nothing: what is damaged is moved to `stack/quarantine` below the home directory. Aliases are rebuilt from
    their moves, the monitor's state is derived from its windows, disk queues that no process would find are brought in. Exit
    code 1 where damage remains.
    """
    from deployments.doctor.doctor import examine, mend, summary

    settings, now, console = read_settings(), datetime.now(UTC), make_console()
    found, repaired = examine(model, settings, os.environ, now), 0
    for damage, done in mend(found.damages, settings.home, now) if repair else ():
        console.print(f"{damage.path}: {damage.wrong}: {done}", markup=False, highlight=False)
        repaired += 1
    left = examine(model, settings, os.environ, now) if repaired else found
    lines = (*map(str, left.damages), *left.notes, summary(left, repaired))
    console.print(*lines, sep="\n", markup=False, highlight=False)
    return 1 if left.damages else 0
