"""Hooks of flow runs."""

import subprocess
from pathlib import Path

from tests.support.processes import ROOT, python


def test_a_run_goes_on_when_the_pipe_to_its_worker_is_broken(tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from rich.console import Console",
        "from tasks.hooks import outlive_worker",
        "outlive_worker(None, None, None)",
        "sys.stdin.readline()",
        "Console().print('to nobody')",
        "Path(sys.argv[1]).write_text('alive')",
    )
    command = python("-c", "\n".join(lines), str(tmp_path / "after"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(30)
    assert (tmp_path / "after").read_text() == "alive"
