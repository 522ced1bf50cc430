"""What `perennial examples` does: it writes the example specs, and the Python files of their sources, into a directory."""

from dataclasses import dataclass
from pathlib import Path

from deployments.package_data import EXAMPLES
from perennial.errors import SpecError


@dataclass(frozen=True)
class CopiedExamples:
    """The files that were written, and those that were there already, byte for byte."""

    written: tuple[Path, ...]
    present: tuple[Path, ...]

    def rows(self) -> dict[str, str]:
        """What to print: each file, and what to do with the tutorial."""
        tutorial = next(path for path in (*self.written, *self.present) if path.name == "flights.toml")
        written, present = ("\n".join(map(str, paths)) for paths in (self.written, self.present))
        return {"wrote": written, "there already": present, "next": f"perennial check {tutorial}"}


def copy_examples(directory: Path) -> CopiedExamples:
    """Write the examples into `directory`; raises SpecError, and writes nothing, where it has other files of their names."""
    sources = {directory / path.name: path.read_bytes() for path in sorted(EXAMPLES.glob("*.*"))}
    present = [path for path in sources if path.exists()]
    changed = [str(path) for path in present if path.read_bytes() != sources[path]]
    if changed:
        raise SpecError(f"{', '.join(changed)} would be written over: name another directory, `perennial examples DIRECTORY`")
    directory.mkdir(parents=True, exist_ok=True)
    written = [path for path in sources if path not in present]
    for path in written:
        path.write_bytes(sources[path])
    return CopiedExamples(tuple(written), tuple(present))
