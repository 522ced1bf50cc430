"""`make check-deploy`: runs the checker of each kind of deployment file, and says which could not run and why.

The checkers that PyPI has are in `.venv-deploy`. Others are programs: those that Debian has are installed where this runs as
root, the rest are used where they are. It fails when a checker found something; what did not run is shown and does no harm,
unless STRICT=1 asks for all.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.services.debian_services import SITE, write_main
from tests.support.debian import install_packages
from tests.support.processes import ROOT

DEPLOYMENTS = ROOT / "deployments"
KUBERNETES, TERRAFORM, MONITORING = DEPLOYMENTS / "kubernetes", DEPLOYMENTS / "terraform", DEPLOYMENTS / "monitoring"
COMPOSE, COMPOSE_FILES = DEPLOYMENTS / "compose.yaml", DEPLOYMENTS / "compose"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = [
    *(COMPOSE_FILES / name for name in ("make-secrets", "with-secrets")),
    *(KUBERNETES / name for name in ("apply", "with-kubeconfig")),
    DEPLOYMENTS / "push-image",
]
TOOLS = ROOT / ".venv-deploy" / "bin"
PACKAGE_OF = {
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
    "caddy": "caddy",
    "nginx": "nginx",
    "shellcheck": "shellcheck",
    "kubectl": "kubectl",
    "docker": "docker-cli",
    "docker-compose": "docker-compose",
}
"""Programs that Debian packages bring, the last three from Debian 13 on."""

ELSEWHERE = {"terraform": "install Terraform or OpenTofu"}


@dataclass(frozen=True)
class Check:
    """One command, the program that it needs beside those of `.venv-deploy`, and what it looks at."""

    name: str
    command: tuple[str, ...]
    needs: str = ""
    directory: Path = ROOT


def main() -> int:
    """Run all, print a line for each; 1 when one found something."""
    install_packages(PACKAGE_OF)
    with tempfile.TemporaryDirectory() as directory:
        results = [(check.name, run(check)) for check in checks(Path(directory))]
    for name, said in results:
        print(f"{said.partition(':')[0]:8} {name}")
    failed = [(name, said) for name, said in results if said.startswith("failed")]
    skipped = [(name, said) for name, said in results if said.startswith("skipped")]
    for name, said in failed + skipped:
        print(f"\n{name}: {said}")
    print(f"\n{len(results) - len(failed) - len(skipped)} checks passed, {len(failed)} failed, {len(skipped)} did not run")
    return 1 if failed or (skipped and os.environ.get("STRICT")) else 0


def run(check: Check) -> str:
    """`ok`, `skipped: why` or `failed: what it said`."""
    if check.needs and not is_there(check.needs):
        return f"skipped: {check.needs} is not here, or too old; {fix_of(check.needs)}"
    done = subprocess.run(
        check.command, cwd=check.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return "ok" if done.returncode == 0 else f"failed: {' '.join(check.command)}\n{done.stdout.strip()[-4_000:]}"


def is_there(program: str) -> bool:
    if program == "docker":  # the client alone, without the plugin, knows no compose files
        return bool(shutil.which(program)) and not subprocess.run([program, "compose", "version"], capture_output=True).returncode
    if program == "amtool" and shutil.which(program):  # `url_file` of a receiver came with 0.26, and Debian 12 has 0.25
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        return not re.search(r"version 0\.(1?\d|2[0-5])\.", said.stdout + said.stderr)
    return shutil.which(program) is not None


def fix_of(program: str) -> str:
    package = PACKAGE_OF.get(program)
    return f"apt-get install {package} (of a newer Debian where this one's is too old)" if package else ELSEWHERE[program]


def checks(directory: Path) -> Iterator[Check]:
    """All of them; what kustomize builds goes to `directory`."""
    kinds = (compose_checks, lambda: nginx_checks(directory), lambda: kubernetes_checks(directory), workflow_checks, rule_checks)
    for kind in (*kinds, terraform_checks):
        yield from kind()
    yield Check("Dockerfile: hadolint", (str(Path(sys.executable).parent / "hadolint"), "Dockerfile"))


def compose_checks() -> Iterator[Check]:
    schema = ("--builtin-schema", "vendor.compose-spec", str(COMPOSE))
    yield Check("compose: schema", (tool("check-jsonschema"), *schema))
    yield Check("compose: config", ("docker", "compose", "--file", str(COMPOSE), "config", "--quiet"), "docker")
    yield Check("scripts: shellcheck", ("shellcheck", *map(str, SCRIPTS)), "shellcheck")
    caddy = ("caddy", "validate", "--adapter", "caddyfile", "--config", str(COMPOSE_FILES / "Caddyfile"))
    yield Check("compose: proxy", caddy, "caddy")
    yield Check("compose: alertmanager", ("amtool", "check-config", str(COMPOSE_FILES / "alertmanager.yml")), "amtool")


def nginx_checks(directory: Path) -> Iterator[Check]:
    """The site in a configuration around it, as Debian has one."""
    write_main(directory, SITE.read_text())
    command = ("nginx", "-t", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    yield Check("nginx: site", command, "nginx")


def kubernetes_checks(directory: Path) -> Iterator[Check]:
    """The objects of each overlay as kustomize builds them; without kubectl the files that they are built from."""
    if shutil.which("kubectl") is None:
        files = [str(path) for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name != "kustomization.yaml"]
        yield Check("kubernetes: schema of the files", (tool("kubernetes-validate"), "--strict", "--quiet", *files))
    for overlay in sorted((KUBERNETES / "overlays").iterdir()):
        built = directory / f"{overlay.name}.yaml"
        build = ("kubectl", "kustomize", str(overlay), "--output", str(built))
        yield Check(f"kubernetes: build {overlay.name}", build, "kubectl")
        validate = (tool("kubernetes-validate"), "--strict", "--quiet", str(built))
        yield Check(f"kubernetes: schema of {overlay.name}", validate, "kubectl")


def workflow_checks() -> Iterator[Check]:
    files = tuple(str(path) for path in WORKFLOWS)
    schema = ("--builtin-schema", "vendor.github-workflows", *files)
    yield Check("workflows: schema", (tool("check-jsonschema"), *schema))
    yield Check("workflows: actionlint", (tool("actionlint"), *files))
    yield Check("workflows: zizmor", (tool("zizmor"), "--offline", "--quiet", "--min-severity", "medium", *files))


def rule_checks() -> Iterator[Check]:
    config = str(COMPOSE_FILES / "prometheus.yml")
    yield Check("prometheus: config", ("promtool", "check", "config", "--syntax-only", config), "promtool")
    yield Check("prometheus: rules", ("promtool", "check", "rules", "rules.yml"), "promtool", MONITORING)
    yield Check("prometheus: tests of the rules", ("promtool", "test", "rules", "rules_test.yml"), "promtool", MONITORING)


def terraform_checks() -> Iterator[Check]:
    program = next((name for name in ("terraform", "tofu") if shutil.which(name)), "terraform")
    parse = "import sys, hcl2\nfor path in sys.argv[1:]:\n    with open(path) as file: hcl2.load(file)"
    files = tuple(str(path) for path in sorted(TERRAFORM.rglob("*.tf")))
    yield Check("terraform: parsed", (tool("python"), "-c", parse, *files))
    yield Check("terraform: format", (program, "fmt", "-check", "-recursive", str(TERRAFORM)), program)


def tool(name: str) -> str:
    return str(TOOLS / name)


if __name__ == "__main__":
    sys.exit(main())
