"""`release` on Kubernetes: what it tells kubectl when the canary is well, when it fails, and when the rollout does not end.

kubectl is a script here that writes down what it is told, and fails where the test wants it; no cluster has a part in it.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.clusters.check import KUBERNETES
from tests.support.processes import python

IMAGE = "registry.example.com/perennial@sha256:new"
KUBECTL = """#!/bin/sh
shift 2
echo "$*" >> "$TOLD"
case "$*" in
  "get deployment"*) cat "$STABLE" ;;
  "apply --filename -"*) cat > "$APPLIED" ;;
esac
case "$*" in $FAILS) echo "kubectl says no" >&2; exit 1 ;; esac
"""


@dataclass(frozen=True)
class Cluster:
    """A directory that stands for one."""

    directory: Path

    def release(self, fails: str) -> tuple[int, str, list[str]]:
        """Exit code, what was said, and the commands; `fails` is a pattern of those that fail."""
        files = {name.upper(): str(self.directory / name) for name in ("told", "stable", "applied")}
        environ = {**os.environ, **files, "FAILS": fails, "PATH": f"{self.directory}:{os.environ['PATH']}"}
        command = python(str(KUBERNETES / "release"), IMAGE, "--watch", "7")
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        told = (self.directory / "told").read_text().splitlines()
        return (
            done.returncode,
            done.stdout + done.stderr,
            [line for line in told if line.startswith(("set", "rollout", "delete", "exec"))],
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    stable = next(yaml.safe_load_all((KUBERNETES / "base" / "service.yaml").read_text()))
    (tmp_path / "stable").write_text(json.dumps(stable))
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    return Cluster(tmp_path)


def test_a_release_that_is_well_gets_to_all_replicas_after_its_canary(cluster: Cluster) -> None:
    code, said, told = cluster.release("nothing")
    assert (code, f"released: {IMAGE}" in said) == (0, True)
    assert told[0].startswith("rollout status deployment/service-canary")
    assert told[1].startswith("exec deployment/service-canary --container service -- python -c")
    assert told[-3].startswith("delete deployment service-canary")
    assert told[-2:] == [f"set image deployment/service service={IMAGE}", "rollout status deployment/service --timeout=900s"]


@pytest.mark.parametrize("fails", ["*status deployment/service-canary*", "exec*"], ids=["not-ready", "smoke-test"])
def test_a_canary_that_fails_goes_and_the_replicas_stay_as_they_were(cluster: Cluster, fails: str) -> None:
    code, said, told = cluster.release(fails)
    assert (code, "nothing was released" in said, "kubectl says no" in said) == (1, True, True)
    assert told[-1].startswith("delete deployment service-canary")
    assert not [line for line in told if line.startswith("set image")]


def test_a_rollout_that_does_not_end_is_undone(cluster: Cluster) -> None:
    code, said, told = cluster.release("*status deployment/service --timeout*")
    assert (code, "brought back" in said) == (1, True)
    assert told[-1] == "rollout undo deployment/service"


def test_the_canary_is_one_replica_that_the_service_knows_and_the_deployment_does_not(cluster: Cluster) -> None:
    cluster.release("nothing")
    stable, canary = (json.loads((cluster.directory / name).read_text()) for name in ("stable", "applied"))
    documents = list(yaml.safe_load_all((KUBERNETES / "base" / "service.yaml").read_text()))
    service = next(one for one in documents if one["kind"] == "Service")
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert not stable["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert (canary["spec"]["replicas"], canary["spec"]["template"]["spec"]["containers"][0]["image"]) == (1, IMAGE)
