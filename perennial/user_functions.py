"""User functions: Python that a spec names as `file.py:function`, loaded from beside the spec.

This module only loads them; what a function is given and must return is said by the module that calls it.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from perennial.errors import FunctionError


def load_function(reference: str, base: Path) -> Callable[..., Any]:
    """The function that `file.py:name` refers to, `file.py` being relative to `base` (the spec's directory).

    The file is run anew at each call, so an edited function counts. Raises FunctionError naming file, function and fix.
    """
    file, separator, name = reference.partition(":")
    if not separator or not file.endswith(".py") or not name.isidentifier():
        raise FunctionError(f"{reference!r} does not name a function; write it as `file.py:function`")
    function = getattr(_load_module(base / file, reference), name, None)
    if not callable(function):
        raise FunctionError(f"{reference}: {base / file} has no function {name!r}; define it there or mend the name")
    return function  # type: ignore[no-any-return]


def _load_module(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        raise FunctionError(f"{reference}: there is no file {path}; the path is relative to the directory of the spec")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]  # two specs may each have their own `features.py`
    spec = importlib.util.spec_from_file_location(f"_perennial_user_{path.stem}_{digest}", path)
    if spec is None or spec.loader is None:
        raise FunctionError(f"{reference}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise FunctionError(f"{reference}: {path} fails when it is run: {type(error).__name__}: {error}") from error
    return module
