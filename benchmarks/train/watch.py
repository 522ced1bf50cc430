"""Watch a subject: the memory of its process tree, looked at ten times a second, and the steps that it prints."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serve.usage import tree

LOOK = 0.1  # seconds between two looks at the memory
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Step:
    """Wall and processor seconds of a step, or of all calls of a task of one name, and the highest memory while it ran."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Course:
    """A subject from start to end, and its steps in the order in which they began first."""

    subject: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    steps: tuple[Step, ...]


def watch(subject: str, folder: Path, environ: Mapping[str, str]) -> Course:
    """Run a subject to its end; raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "benchmarks.train.subject", subject, str(folder)]
    began, looks, marks = time.time(), list[tuple[float, float]](), list[dict[str, Any]]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(environ)) as process:
        ended = threading.Event()
        looking = threading.Thread(target=_look, args=(process.pid, looks, ended))
        looking.start()
        marks.extend(json.loads(line) for line in process.stdout or () if line.startswith('{"step"'))
        process.wait()
        ended.set()
        looking.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    steps = [_step(name, marks, looks) for name in dict.fromkeys(mark["step"] for mark in marks)]
    peak = max(memory for _, memory in looks)
    return Course(subject, time.time() - began, marks[-1]["cpu"], peak, tuple(steps))


def _look(pid: int, looks: list[tuple[float, float]], ended: threading.Event) -> None:
    while not ended.wait(LOOK):
        looks.append((time.time(), sum(_resident(process) for process in tree(pid)) / MEGABYTE))


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def _step(name: str, marks: list[dict[str, Any]], looks: list[tuple[float, float]]) -> Step:
    own = [mark for mark in marks if mark["step"] == name]
    pairs = list(zip(own[::2], own[1::2], strict=True))
    seconds, cpu = (sum(end[key] - begin[key] for begin, end in pairs) for key in ("at", "cpu"))
    inside = [memory for at, memory in looks for begin, end in pairs if begin["at"] <= at <= end["at"] + LOOK]
    return Step(name, seconds, cpu, max(inside, default=0.0))
