"""The service in an environment of nothing but requirements-serve.lock: it answers for every learner's model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.learners.declarations import LEARNERS
from tests.service.serving import Serving, registry_of, rows, serving_specs
from tests.support import models
from tests.support.installation import Installation, build_wheel, install, only
from tests.support.processes import ROOT

LOCKED = re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements-serve.lock").read_text(), re.MULTILINE)
ABSENT = ("prefect", "wandb", "evidently", "hyperopt", "pandas", "sklearn", "cyclopts", "plotly")
FIND = "import json, sys, importlib.util as u; print(json.dumps([u.find_spec(one) is None for one in sys.argv[1:]]))"
NAMES = {learner: learner.replace("_", "-") for learner in LEARNERS}  # of the models, by their learners'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    directory = tmp_path_factory.mktemp("environment")
    return install(build_wheel(directory / "wheel"), directory / "venv", only(LOCKED, directory / "locked"))


@pytest.fixture(scope="module")
def service(environment: Installation, tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("served")
    for learner, name in NAMES.items():
        models.publish_small(registry_of(home), models.named_model(name, model=models.small_model(learner=learner)))
    specs = [models.write_named(home, name) for name in NAMES.values()]
    interpreter = str(environment.path / "bin" / "python")
    with serving_specs(home, store_url, specs, interpreter, pythonsafepath=1) as running:
        yield running


def test_the_environment_has_what_the_lock_has(environment: Installation, tmp_path: Path) -> None:
    found = environment.run("python", "-P", "-c", FIND, *ABSENT, "litserve", "service", cwd=tmp_path)
    assert json.loads(found) == [*[True] * len(ABSENT), False, False]


@pytest.mark.parametrize("name", NAMES.values())
def test_every_learner_s_model_is_served_in_it(service: Serving, name: str) -> None:
    sent, address = rows(20), f"/models/{name}"
    answer = service.client.post(f"{address}/predict", json={"instances": sent}).json()
    assert (answer["model"], answer["version"], len(answer["predictions"])) == (name, 1, len(sent))
    assert service.client.post(f"{address}/explain", json={"instances": sent[:1]}).status_code == 200
    told = service.client.post(f"{address}/feedback", json={"labels": [{"id": sent[0]["id"], "label": 1}]})
    assert told.json() == {"accepted": 1}


def test_the_rest_answers_too(service: Serving) -> None:
    statuses = {path: service.client.get(path).status_code for path in ("/health", "/ready", "/metrics", "/models", "/docs")}
    assert set(statuses.values()) == {200}, statuses
