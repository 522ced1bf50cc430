"""The tools of the tests do what the tests rely on."""

import os
import re
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
import redis

from perennial.model import Model, from_files
from perennial.registry import Registry
from perennial.spec import Task, load_spec
from tests.conftest import WHOLE_STACKS, group_of
from tests.support import models
from tests.support.isolation import MARKER, leftovers
from tests.support.processes import BLOCK, ROOT, free_port, python
from tests.support.sentry_receiver import SentryReceiver, envelope_items
from tests.support.store import own_database
from tests.support.waiting import wait_until


def test_wait_until_gives_what_the_predicate_gave_or_names_what_it_waited_for():
    assert wait_until(lambda: "here", description="nothing") == "here"
    with pytest.raises(AssertionError, match="in vain for rain"):
        wait_until(lambda: 0, timeout=0.05, description="rain")


def test_the_environment_of_the_person_is_out_of_reach():
    assert "REDIS_URL" not in os.environ
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["WANDB_MODE"] == "offline"


def test_a_store_is_empty_and_speaks_streams(store: redis.Redis):
    assert store.dbsize() == 0
    store.xadd("perennial:small:predictions", {"v": b"1"})
    assert store.xlen("perennial:small:predictions") == 1


def test_each_worker_has_its_own_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    assert own_database("redis://:secret@example.org:6380/0") == "redis://:secret@example.org:6380/14"


def test_ports_of_two_test_processes_are_of_different_blocks():
    ours = [free_port() for _ in range(3)]
    script = "from tests.support.processes import free_port; print(free_port())"
    other = int(subprocess.run(python("-c", script), check=True, capture_output=True, cwd=ROOT).stdout)
    assert len(set(ours)) == 3
    assert {port // BLOCK for port in ours} == {ours[0] // BLOCK} != {other // BLOCK}


def test_every_module_that_brings_a_stack_up_is_in_a_group_of_the_stacks():
    starts = re.compile(r"^(from tests\.support\.stack import|def \w+\(.*\bstack: Stack\b)", re.MULTILINE)
    modules = [path for path in (ROOT / "tests").rglob("test_*.py") if starts.search(path.read_text())]
    assert modules
    assert {group_of(path) for path in modules} == set(WHOLE_STACKS)


def test_the_tests_of_one_group_run_on_one_worker():
    modules = [
        "tests/deployments/stack/test_plan.py",
        "tests/deployments/stack/test_ports.py",
        "tests/perennial/test_durations.py",
    ]
    command = python("-m", "pytest", "-v", "-n", "2", "--no-loadscope-reorder", *modules)
    done = subprocess.run(command, check=False, capture_output=True, cwd=ROOT, text=True)
    ran = set(re.findall(r"^\[(gw\d)\].*PASSED tests/(\w+)/", done.stdout, re.MULTILINE))
    assert (done.returncode, len(ran), {room for _, room in ran}) == (0, 2, {"deployments", "perennial"}), done.stdout[-2_000:]


def test_prefect_is_reached_from_this_thread_and_from_others(prefect_api: str):
    from prefect.client.orchestration import SyncPrefectClient, get_client

    seen: list[str] = []

    def look() -> None:
        with get_client(sync_client=True) as client:
            assert isinstance(client, SyncPrefectClient)
            assert client.hello().status_code == 200
            seen.append(str(client.api_url).rstrip("/"))

    look()
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert seen == [prefect_api, prefect_api]


def test_an_envelope_is_split_into_its_items(sentry: SentryReceiver):
    body = b'{"event_id":"1"}\n{"type":"event","length":13}\n{"level":"x"}\n{"type":"attachment","length":3}\na\nb\n'
    assert list(envelope_items(body)) == [("event", {"level": "x"}), ("attachment", b"a\nb")]
    url = sentry.dsn.split("/1")[0].replace("0123456789abcdef@", "") + "/api/1/envelope/"
    assert httpx.post(url, content=body, trust_env=False).is_success
    assert sentry.wait_for(1) == [{"level": "x"}]


DAEMON = """
import subprocess, sys
sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
print(subprocess.Popen(sleeper, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""


def test_a_daemon_that_left_its_parent_is_still_found():
    daemon = int(subprocess.run(python("-c", DAEMON), check=True, capture_output=True, cwd=ROOT).stdout)
    (found,) = [process for process in leftovers() if process.pid == daemon]
    assert found.environ()[MARKER] == os.environ[MARKER]
    found.kill()
    wait_until(lambda: daemon not in {process.pid for process in leftovers()}, description="the daemon to end")


LEARNED = {"binary": 0.6, "multiclass": 1.0, "regression": 3.0}
"""Losses well below those of a constant answer: 0.69, 1.09 and 4.1."""


@pytest.mark.parametrize("task", models.TASKS)
def test_a_small_model_of_each_task_has_learned_something_and_survives_the_registry(registry: Registry, task: Task):
    model, fresh = models.small_model(task), models.small_frame(task, rows=100, seed=1)
    assert model.card.metrics.values["rmse" if task == "regression" else "log_loss"] < LEARNED[task]
    version = models.publish_small(registry, model)
    again = from_files(registry.read("small", version), Path())
    assert (again.predict_frame(fresh) == model.predict_frame(fresh)).all()


def test_the_champion_is_a_published_model(registry: Registry, champion: Model):
    assert registry.aliases("small").champion == champion.card.version == 1


def test_the_small_spec_is_a_file_beside_its_table(tmp_path: Path):
    path = models.write_small(tmp_path, "regression")
    assert load_spec(path) == models.small_spec("regression")
    assert (tmp_path / "rows.parquet").exists()


def test_instances_are_json_of_raw_inputs_with_id_and_event_time():
    (first,) = models.instances(models.small_frame(rows=1))
    assert first.keys() == {"id", "event_time", "amount", "shop"}
    assert first["event_time"].startswith("2024-01-01T00:00:00")
    assert first["event_time"].endswith("+00:00")
