"""What compose file and Kubernetes objects name exists: variables, commands, options, ports, paths, targets, files."""

import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from perennial.settings import FOREIGN, Settings, variable
from service.web.routes import METRICS, PROBES
from tests.clusters.check import COMPOSE, COMPOSE_FILES, DEPLOYMENTS, KUBERNETES, TERRAFORM
from tests.clusters.files import JOB_TEMPLATE, OBJECTS, SERVICES, Program, pods, programs
from tests.support.processes import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
SETTINGS = {variable(field) for field in Settings.model_fields}
PROGRAMS = list(programs())
SERVE = [one for one in PROGRAMS if "service" in one.command]
PREFECT_REDIS = {"PREFECT_REDIS_MESSAGING_URL"}
"""Settings of a package that Prefect's own image has and we have not."""

each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.where)


def prefect_settings() -> set[str]:
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_settings_fields

    return set(_get_settings_fields(PrefectSettings)) | PREFECT_REDIS | {"PREFECT_HOME"}


@each_program
def test_its_variables_are_settings(program: Program) -> None:
    unknown = {name for name in program.variables if name.startswith("PERENNIAL_")} - SETTINGS
    prefects = {name for name in program.variables if name.startswith("PREFECT_")}
    assert not unknown
    assert not prefects - (prefect_settings() if prefects else set())
    if "service" in program.command:
        assert "REDIS_URL" in program.variables


@each_program
def test_its_command_is_one_of_the_image(program: Program) -> None:
    from deployments.cli import app

    words = program.command
    if words[:1] == ("perennial",):
        assert program.image.endswith("full")
        assert words[1] in {name for name in app if not name.startswith("-")}
    elif words[:1] == ("python",):
        assert words[:4] == ("python", "-m", "service", "--spec")
    elif "prefect" in words:
        assert not program.image.endswith("serve"), "the service's image has no Prefect"
        assert set(options_of(words)) <= known_options(words[words.index("prefect") + 1 :])


def options_of(words: tuple[str, ...]) -> Iterator[str]:
    return (word.removeprefix("--").removeprefix("no-") for word in words if word.startswith("--"))


def known_options(words: tuple[str, ...]) -> set[str]:
    """The long options of a command of Prefect's, as its own command line declares them."""
    import prefect.cli  # registers the commands
    from prefect.cli._app import _app

    assert prefect.cli
    command = _app
    for word in words:
        if word.startswith("-") or word not in list(command):
            break
        command = command[word]
    found = (name for argument in command.assemble_argument_collection() for name in argument.names)
    return {name.removeprefix("--").removeprefix("no-") for name in found}


@each_program
def test_it_is_asked_for_what_it_answers(program: Program) -> None:
    if program in SERVE:
        exposed = int(re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE)[0])
        assert program.ports == {exposed} == {Settings.model_fields["port"].default}
        assert program.paths <= PROBES
        assert program.paths
    elif "worker" in program.command:
        assert (program.ports, program.paths) == ({8080}, {"/health"}), "what `prefect worker start --with-healthcheck` answers"


def test_the_service_is_run_by_all_of_them() -> None:
    assert {one.where for one in SERVE} == {
        "compose service",
        "base/service.yaml Deployment service service",
        "base/loop.yaml Deployment loop service",
    }


def test_the_images_are_targets_of_the_dockerfile() -> None:
    built = {name: service["build"]["target"] for name, service in SERVICES.items() if "build" in service}
    assert built == {"deploy": "full", "service": "serve"}
    ours = {re.split("[:-]", one.image)[-1] for one in PROGRAMS if one.is_ours}
    assert ours | set(built.values()) <= TARGETS
    contexts = [service["build"]["context"] for service in SERVICES.values() if "build" in service]
    assert {(COMPOSE.parent / context).resolve() for context in contexts} == {ROOT}


def test_every_file_that_is_named_is_there() -> None:
    named = [DEPLOYMENTS / one["file"] for one in yaml.safe_load(COMPOSE.read_text())["configs"].values()]
    for file in KUBERNETES.rglob("kustomization.yaml"):
        listed = yaml.safe_load(file.read_text())
        made = [name for one in listed.get("configMapGenerator", ()) for name in one.get("files", ())]
        named += [file.parent / name for name in (*listed["resources"], *made)]
    assert named
    assert [path for path in named if not path.exists()] == []


def test_what_is_waited_for_says_when_it_is_healthy() -> None:
    waits = [wait for service in SERVICES.values() for wait in service.get("depends_on", {}).items()]
    assert {"postgres", "redis", "prefect", "service", "deploy"} <= {name for name, _ in waits}
    healthy = {name for name, wait in waits if wait["condition"] == "service_healthy"}
    assert [name for name in healthy if "healthcheck" not in SERVICES[name]] == []


def test_every_image_is_pinned() -> None:
    images = [one.image for one in PROGRAMS if not one.is_ours and "{{" not in one.image]
    renamed = {one["name"]: one for _, thing in OBJECTS for one in thing.get("images", ())}
    tags = [renamed[image]["newTag"] if image in renamed else image.rpartition(":")[2] for image in images]
    assert [tag for tag in tags if not re.match(r"v?\d", tag)] == []


def test_no_pod_takes_a_variable_of_a_kubernetes_service_for_a_setting() -> None:
    """Kubernetes makes REDIS_PORT, ... of each Service of the namespace, and PERENNIAL_* of one that is called so."""
    assert [where for where, pod in pods() if pod.get("enableServiceLinks") is not False] == []


def test_no_pod_but_the_worker_has_a_token_and_none_has_more_rights_than_it_needs() -> None:
    given = [where for where, pod in pods() if pod.get("automountServiceAccountToken") is not False]
    assert given == ["base/worker.yaml Deployment worker"]
    for where, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], where
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            rights = container["securityContext"]
            assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False), where
            assert "memory" in container["resources"]["limits"], where


def test_what_pods_refer_to_is_made() -> None:
    """By kustomize, by Terraform or, in the overlay `local`, from the files that `make-secrets` writes."""
    listed = [yaml.safe_load(file.read_text()) for file in KUBERNETES.rglob("kustomization.yaml")]
    made = {one["name"] for listing in listed for one in listing.get("configMapGenerator", ())}
    made |= set(re.findall(r'^ {4}name += "([\w-]+)"', (TERRAFORM / "perennial" / "kubernetes.tf").read_text(), re.MULTILINE))
    made |= {"redis"}
    named = set(re.findall(r"'(?:configMapRef|secretRef|secretKeyRef|configMap)': {'name': '([\w-]+)'", str(list(pods()))))
    named |= set(re.findall(r"'secretName': '([\w-]+)'", str(list(pods()))))
    assert {"perennial", "specs", "api-keys", "base-job-template"} <= named
    assert named <= made


def test_a_run_on_kubernetes_takes_every_job_variable_that_prefect_yaml_gives() -> None:
    given = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["infrastructure"]
    assert set(given) <= set(JOB_TEMPLATE["variables"]["properties"])
    used = set(re.findall(r"{{ (\w+) }}", str(JOB_TEMPLATE["job_configuration"])))
    assert used <= set(JOB_TEMPLATE["variables"]["properties"])


def test_pool_and_queues_are_those_of_prefect_yaml() -> None:
    text = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    pools = {one["work_pool"]["name"] for one in text["deployments"]}
    queues = {one["work_pool"].get("work_queue_name", "default") for one in text["deployments"]}
    asked = [one.command for one in PROGRAMS if "worker" in one.command]
    assert {words[words.index("--pool") + 1] for words in asked} == pools
    assert {words[words.index("--work-queue") + 1] for words in asked if "--work-queue" in words} == queues


def test_prometheus_scrapes_what_the_service_answers_under_the_name_that_the_rules_know() -> None:
    scraped = yaml.safe_load((COMPOSE_FILES / "prometheus.yml").read_text())["scrape_configs"][0]
    monitor = next(thing for _, thing in OBJECTS if thing["kind"] == "ServiceMonitor")["spec"]["endpoints"][0]
    assert {scraped["metrics_path"], monitor["path"]} == METRICS
    jobs = {scraped["job_name"], monitor["relabelings"][0]["replacement"]}
    assert jobs == set(re.findall(r'job="(\w+)"', (DEPLOYMENTS / "monitoring" / "rules.yml").read_text()))


def test_secrets_come_from_files_alone() -> None:
    secret = {"PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", *(name for name in FOREIGN.values() if name != "PREFECT_API_URL")}
    written = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert not written & secret
    for where, pod in pods():
        for container in pod["containers"]:
            own = container["env"] if isinstance(container.get("env", []), list) and "env" in container else []
            assert not [one["name"] for one in own if one["name"] in secret and "value" in one], where


def test_the_image_is_given_all_that_the_wheel_is_made_of() -> None:
    """What setup.py copies is in the stage that builds the wheel, and nothing that a COPY names is ignored."""
    (copied,) = re.findall(r"^COPIED = (\(.*\))$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    own = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    given = {source for line in own for source in line.split()}
    assert {pattern.partition("/")[0] for pattern in ast.literal_eval(copied)} <= given
    assert given <= set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
