"""The command `export`: a version read from the registry, written as ONNX, and what there is to say of the file."""

from pathlib import Path

from deployments.model_reference import find_model
from deployments.python_api import OpenModel
from perennial.settings import Settings
from tasks.export.onnx_export import CONTRACT, ROWS, SCORES, TOLERANCE, export_onnx


def export_rows(model: str, file: Path, number: int | None, settings: Settings) -> dict[str, str]:
    """Export a version (the champion where none is named) and say what was written, row by row."""
    opened = OpenModel(find_model(model, settings))
    version = opened.champion if number is None else opened.version(number)
    done, card = export_onnx(version.model, file), version.card
    shape = f"(n, {len(card.classes)}): {', '.join(card.classes)}" if card.classes else "(n,)"
    return {
        "wrote": f"{done.file} ({done.file.stat().st_size / 1e6:.2g} MB), {card.name} version {card.version} by {card.learner}",
        "takes": f"{ROWS}, doubles (n, {len(card.features.names)}): {', '.join(card.features.names)}",
        "gives": f"{SCORES}, doubles {shape}",
        "checked": f"{done.rows:,} rows, largest difference of a score {done.difference:.2g} (tolerance {TOLERANCE:g})",
        "next": f"encode rows as the metadata `{CONTRACT}` says: docs/learners.md has an example",
    }
