"""Pages for people: each model's page and its Evidently reports, as the monitor has left them in the model's home.

`/ui` leads to the page of the only model or lists those that the key may see. The files are sent as they are, under a policy by
which they load nothing from elsewhere and ask the service for nothing. A browser sends no header of ours, so here, and here only,
a key may also be the password of HTTP's basic authentication, with any name: the browser asks for it.
"""

import re
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from perennial.settings import PAGE, REPORTS
from service.errors import ServiceError
from service.web.admission import GRANT
from service.web.routes import UI, UI_OF_A_MODEL, long_path

REPORT_FILE = re.compile(r"\d{8}T\d{6}\.html|evidently\.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"
REPORT_POLICY = (
    "default-src 'none'; form-action 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)


def add_pages(app: FastAPI, homes: Mapping[str, Path]) -> None:
    """Serve the pages of these models, each from its home."""

    @app.get(UI, include_in_schema=False)
    async def ui(request: Request) -> Response:
        grant = getattr(request.state, GRANT, None)
        names = [name for name in homes if grant is None or grant.may_ask(name)]
        if len(names) == 1:
            return RedirectResponse(_address(names[0]))
        links = "".join(f'<li><a href="{escape(_address(name))}">{escape(name)}</a></li>' for name in names)
        return HTMLResponse(f"<!doctype html><title>Models</title><h1>Models</h1><ul>{links}</ul>", headers=_policy(POLICY))

    @app.get(long_path("{name}", UI_OF_A_MODEL), include_in_schema=False)
    async def page(name: str) -> Response:
        return _file(homes, name, PAGE, POLICY)

    @app.get(long_path("{name}", f"{UI_OF_A_MODEL}{REPORTS}/{{file}}"), include_in_schema=False)
    async def report(name: str, file: str) -> Response:
        if not REPORT_FILE.fullmatch(file):
            raise _missing(f"{file!r:.80} is no report")
        return _file(homes, name, f"{REPORTS}/{file}", REPORT_POLICY)


def _address(name: str) -> str:
    """Relative to UI, so that it is right behind a proxy with a path of its own."""
    return long_path(name, UI_OF_A_MODEL).removeprefix("/")


def _file(homes: Mapping[str, Path], name: str, file: str, policy: str) -> Response:
    if name not in homes:
        raise _missing(f"no model is called {name!r:.80}; this service has {', '.join(homes)}")
    path = homes[name] / file
    if not path.is_file():
        raise _missing(f"{name} has no {file} here: the monitor writes it when a window closes, `perennial ui SPEC` at once")
    return FileResponse(path, headers=_policy(policy))


def _policy(policy: str) -> dict[str, str]:
    return {"Content-Security-Policy": policy}


def _missing(message: str) -> ServiceError:
    return ServiceError(HTTPStatus.NOT_FOUND, "not_found", message)
