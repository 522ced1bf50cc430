"""What the figures were measured on."""

import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.measure import machine

PACKAGES = ("litserve", "lightgbm", "fastapi", "uvicorn", "orjson")


def facts(seconds: float) -> dict[str, object]:
    """Processor, memory, system and versions; `seconds` is how long each load lasted."""
    return {
        **machine(),
        "cpu": _cpu(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "kernel": platform.release(),
        "versions": {name: version(name) for name in PACKAGES},
        "seconds": seconds,
    }


def _cpu() -> str:
    """The processor's name where the system tells it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
