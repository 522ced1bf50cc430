"""Where the files are that the packages read at run time and that are no modules: prefect.yaml and the example specs.

In a checkout they stand at its top level, where people and `prefect deploy` look for them. A built wheel carries copies of the
same files, made by setup.py while it is built, in the directory `resources` of this package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "resources"  # setup.py names it too
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent

PREFECT_FILE = _ROOT / "prefect.yaml"
"""The deployments of all models; it is itself valid, for the flights example."""

TRIAGE_LOCK = _ROOT / "requirements-triage.lock"
"""What the server of `perennial up --triage` is installed from."""

EXAMPLES = _ROOT / "examples"
"""Specs with the Python files of their sources."""
