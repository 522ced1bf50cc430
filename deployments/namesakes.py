"""Modules of the working directory that bear the name of one of our packages, and would be imported in its place.

`python -m` looks in the working directory first. So does Prefect, in a deployment and in every flow run, whatever Python is told.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from perennial.errors import StackError

OWN_PACKAGES = ("perennial", "service", "monitoring", "tasks", "flows", "deployments")


def refuse_namesakes(directory: Path) -> None:
    """Raises StackError naming such modules of a directory; the packages themselves, in a checkout, are none."""
    found = [origin for name in OWN_PACKAGES if (origin := _namesake(name, directory))]
    if found:
        said = "would be imported in place of Perennial's package of that name: run perennial in another directory"
        raise StackError(f"{', '.join(found)} {said}")


def _namesake(name: str, directory: Path) -> str | None:
    there, ours = PathFinder.find_spec(name, [str(directory)]), find_spec(name)
    origin = there.origin if there is not None else None  # None of a mere directory, too, which hides no package
    if origin is None or ours is None or ours.origin is None or Path(origin).samefile(ours.origin):
        return None
    return origin
