"""Pages of models by hand: drawn anew from their files, and where to look at them."""

from pathlib import Path

from deployments.stack.stack import running_stack
from monitoring.page import write_page
from perennial.errors import StackError
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import load_spec
from service.web.routes import UI_OF_A_MODEL, long_path


def write_pages(spec: Path | None, settings: Settings) -> dict[str, tuple[Path, str | None]]:
    """Draw the page of a spec's model, or of each that the stack has; by model the file, and its address while it is served.

    Raises StackError without a spec where no stack runs, ArchiveError, NewerFormat.
    """
    stack = running_stack(settings)
    if spec is None and stack is None:
        raise StackError("the stack is down: say whose page, as in `perennial ui SPEC`, or start it with `perennial up SPEC`")
    served = {model.name for model in stack.models} if stack is not None else set[str]()
    names = sorted(served) if spec is None else [load_spec(spec).name]
    registry, prefect = Registry(settings.registry_url), stack.prefect.url if stack is not None else settings.prefect_api_url
    found: dict[str, tuple[Path, str | None]] = {}
    for name in names:
        url = stack.service.url if stack is not None and stack.service is not None and name in served else None
        address = f"{url}{long_path(name, UI_OF_A_MODEL)}" if url else None
        found[name] = write_page(settings.model_home(name), registry, name, prefect), address
    return found
