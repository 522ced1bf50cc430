"""Bugsink beside the stack: a server that takes what Sentry would, so that errors can be triaged without leaving the machine.

Bugsink is not installed with Perennial: it gets a virtual environment of its own below the stack's directory, from a lock with
hashes, the first time (a minute, and the package index is asked). Tables, the account, the project and its DSN are made by
script; nothing is sent to its makers. Its configuration, account and DSN are files that only their owner may read.
"""

import hashlib
import os
import secrets
import subprocess
import venv
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import httpx

from deployments.package_data import TRIAGE_LOCK
from deployments.stack.supervisord import Program
from perennial.errors import StackError

PREFERRED_PORT = 8055
CONFIG, ACCOUNT, DSN = "bugsink_conf.py", "account", "dsn"  # files of the directory
EMAIL = "triage@example.com"  # of the one account; nothing is mailed

# Written to the shell of Django; what exists is left alone, so that it may run at each start.
_PROJECT = """
from django.contrib.auth import get_user_model
from projects.models import Project
from teams.models import Team
users = get_user_model().objects
users.filter(username={email!r}).exists() or users.create_superuser({email!r}, {email!r}, {password!r})
team, _ = Team.objects.get_or_create(name="Perennial")
project, _ = Project.objects.get_or_create(name="perennial", defaults={{"team": team}})
print("DSN=" + project.dsn)
"""


def prepare(directory: Path, port: int) -> None:
    """Install, configure, migrate and make the project, as far as that is not done; raises StackError with what went wrong."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _install(directory)
    password = _secret(directory / ACCOUNT, prefix=f"{EMAIL} ").rpartition(" ")[2]
    _write(directory / CONFIG, _config(directory, port, _secret(directory / "secret")))
    _manage(directory, "migrate", "--verbosity=0")
    _manage(directory, "migrate", "snappea", "--database=snappea", "--verbosity=0")
    said = _manage(directory, "shell", "--verbosity=0", "-c", _PROJECT.format(email=EMAIL, password=password))
    dsn = next((line.removeprefix("DSN=") for line in said.splitlines() if line.startswith("DSN=")), None)
    if dsn is None:
        raise StackError(f"Bugsink made no project: it said {said[-500:]!r}")
    _write(directory / DSN, dsn)


def program(directory: Path, name: str, port: int) -> Program:
    """What runs it: one process, on loopback."""
    python = str(directory / "venv" / "bin" / "python")
    bind = ("--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "2", "--timeout", "60")
    command = (python, "-m", "gunicorn", *bind, "bugsink.wsgi")
    return Program(
        name=name, command=command, order=5, directory=directory, environment={**_environment(directory), "HOME": str(directory)}
    )


def read_dsn(directory: Path) -> str:
    return (directory / DSN).read_text(encoding="utf-8")


def answers(port: int) -> bool:
    """Whether its page to sign in can be had."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/accounts/login/", timeout=10).status_code == HTTPStatus.OK
    return False


def _install(directory: Path) -> None:
    """The virtual environment, made anew where the lock is another one."""
    lock, stamp = TRIAGE_LOCK, directory / "venv" / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(directory / "venv")
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", str(lock))
    _run(directory, pip, "Bugsink cannot be installed")
    stamp.write_text(digest)


def _manage(directory: Path, *arguments: str) -> str:
    return _run(directory, ("-m", "django", *arguments), f"Bugsink's {arguments[0]} fails")


def _run(directory: Path, arguments: Sequence[str], trouble: str) -> str:
    environment = {**os.environ, **_environment(directory)}
    command = [str(directory / "venv" / "bin" / "python"), *arguments]
    done = subprocess.run(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"{trouble}: {(done.stderr or done.stdout).strip()[-1_500:]}")
    return done.stdout


def _environment(directory: Path) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": Path(CONFIG).stem, "PYTHONPATH": str(directory), "SENTRY_DSN": ""}


def _config(directory: Path, port: int, secret: str) -> str:
    return f"""from bugsink.settings.default import *
SECRET_KEY = {secret!r}
DATABASES["default"]["NAME"] = {str(directory / "db.sqlite3")!r}
DATABASES["snappea"]["NAME"] = {str(directory / "snappea.sqlite3")!r}
SNAPPEA = {{"TASK_ALWAYS_EAGER": True}}
TIME_ZONE = "UTC"
EMAIL_BACKEND = "bugsink.email_backends.QuietConsoleEmailBackend"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
BUGSINK = {{
    "BASE_URL": "http://127.0.0.1:{port}",
    "SINGLE_USER": True,
    "SINGLE_TEAM": True,
    "USER_REGISTRATION": "CB_NOBODY",
    "PHONEHOME": False,
    "INGEST_STORE_BASE_DIR": {str(directory / "ingest")!r},
}}
"""


def _secret(file: Path, prefix: str = "") -> str:
    """A random text, the same each time; in a file of its owner."""
    if not file.exists():
        _write(file, prefix + secrets.token_urlsafe(24))
    return file.read_text(encoding="utf-8")


def _write(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
