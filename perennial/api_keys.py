"""API keys as they are configured: the service asks for them, our own commands send the first one.

Keys come from `PERENNIAL_API_KEYS` (separated by commas) and from the file of `PERENNIAL_API_KEYS_FILE` (one a line,
`#` begins a comment). No message here quotes a key.
"""

from collections.abc import Iterable
from pathlib import Path

from perennial.errors import SettingsError
from perennial.settings import Settings, variable

SHORTEST = 16
LONGEST = 256
"""Characters of a key: what can be guessed is no key, and the head of a request has room for no more."""


def configured_keys(settings: Settings) -> tuple[str, ...]:
    """Every key, those of the environment first; raises SettingsError when one is unusable or the file cannot be read."""
    return tuple(dict.fromkeys((*environment_keys(settings), *file_keys(settings.api_keys_file))))


def environment_keys(settings: Settings) -> tuple[str, ...]:
    """The keys of `PERENNIAL_API_KEYS`; raises SettingsError."""
    text = settings.api_keys.get_secret_value() if settings.api_keys else ""
    return _checked(text.split(","), variable("api_keys"))


def file_keys(path: Path | None) -> tuple[str, ...]:
    """The keys of a file, none without one; raises SettingsError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path else ()
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"{variable('api_keys_file')}={path} cannot be read ({type(error).__name__}): name a text file"
        raise SettingsError(wrong) from error
    return _checked((line.partition("#")[0] for line in lines), str(path))


def authorization(settings: Settings) -> dict[str, str]:
    """The headers by which our own commands show a key; empty when the service asks for none."""
    keys = configured_keys(settings)
    return {"Authorization": f"Bearer {keys[0]}"} if keys else {}


def _checked(keys: Iterable[str], where: str) -> tuple[str, ...]:
    found = tuple(key.strip() for key in keys if key.strip())
    for number, key in enumerate(found, start=1):
        if not SHORTEST <= len(key) <= LONGEST or not all("!" <= letter <= "~" for letter in key):
            raise SettingsError(
                f"key {number} of {where} is unusable: expected {SHORTEST} to {LONGEST} ASCII characters without blanks, "
                "such as `openssl rand -hex 24` gives"
            )
    return found
