"""Looks for keys and passwords in the files of the repository: a part of `make security`, run by the Python of `.venv-deploy`.

Tests, the lock files and the documentation hold made-up ones, so they are left out; a line that ends in
`pragma: allowlist secret` is one that a person has looked at.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MADE_UP = ("tests/", "docs/", "benchmarks/", "notebooks/")


def main() -> int:
    """1 when there is one."""
    from detect_secrets.core.scan import scan_file  # type: ignore[import-not-found]
    from detect_secrets.settings import default_settings  # type: ignore[import-not-found]

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    files = [name for name in tracked if name and not name.startswith(MADE_UP) and not name.endswith(".lock")]
    with default_settings():
        found = [secret for name in files for secret in scan_file(str(ROOT / name)) if not is_a_name(secret)]
    for secret in found:
        sys.stderr.write(f"{Path(secret.filename).relative_to(ROOT)}:{secret.line_number}: {secret.type}\n")
    sys.stdout.write(f"{len(files)} files, {len(found)} possible secrets\n")
    return 1 if found else 0


def is_a_name(secret: Any) -> bool:
    """Whether it only names a secret: a Kubernetes object, or a variable."""
    line = Path(secret.filename).read_text(encoding="utf-8").splitlines()[secret.line_number - 1]
    return secret.type == "Secret Keyword" and ("secretName:" in line or (secret.secret_value or "").isupper())


if __name__ == "__main__":
    sys.exit(main())
