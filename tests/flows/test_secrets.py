"""Secrets planted wherever a user gives one, and looked for in everything that a training writes, logs and sends."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.train import train
from perennial.errors import SourceError
from perennial.settings import load_settings
from perennial.spec import load_spec
from tasks.data.sources import read_source
from tests.flows.asking import artifacts, logged, runs
from tests.support.http_server import file_server
from tests.support.models import write_small
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until

CANARY = "canary4711"
VARIABLES = {
    "WANDB_API_KEY": f"{CANARY}{'0' * 30}",
    "PERENNIAL_API_KEYS": f"{CANARY}-{'k' * 20}@small",
    "REDIS_URL": f"redis://me:{CANARY}@127.0.0.1:1/0",
    "SALES_DB": f"postgresql://me:{CANARY}@127.0.0.1:1/sales",
}


@pytest.fixture
def spec(home: Path) -> Iterator[Path]:
    """The small spec, its table behind a signed address with a password."""
    path = write_small(home)
    with file_server(home) as url:
        signed = f"{url.replace('://', f'://me:{CANARY}@')}/rows.parquet?X-Amz-Signature={CANARY}&part=1"
        path.write_text(path.read_text().replace('"rows.parquet"', f'"{signed}"'))
        yield path


@pytest.fixture(autouse=True)
def planted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "var" / "wandb").mkdir(parents=True)
    monkeypatch.setenv("WANDB_DIR", str(home / "var" / "wandb"))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def found_below(directory: Path) -> list[Path]:
    """The files that hold the canary, in text or in bytes as it is."""
    return [path for path in directory.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def shown_in_prefect(api: str) -> str:
    run = runs(api, "train")[0]
    wait_until(lambda: any("Finished" in line for line in logged(api, run["id"])), 30, "the log of the run")
    return f"{run} {logged(api, run['id'])} {artifacts(api, run['id'])}"


def test_a_training_tells_no_secret(home: Path, spec: Path, prefect_api: str) -> None:
    assert train(str(spec)) == 1
    var = home / "var"
    assert list(var.rglob("*.wandb")), "W&B has its run"
    assert "X-Amz-Signature=***" in "".join(path.read_text() for path in var.rglob("model.json")), "the card has the address"
    assert found_below(var) + found_below(Path(os.environ["PREFECT_HOME"])) == []
    assert CANARY not in shown_in_prefect(prefect_api)


def test_a_source_that_cannot_be_read_tells_no_secret(
    home: Path, spec: Path, prefect_api: str, sentry: SentryReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTRY_DSN", sentry.dsn)
    (home / "rows.parquet").unlink()
    with pytest.raises(SourceError, match=r"404 .*rows\.parquet\?X-Amz-Signature=\*\*\*&part=1") as refused:
        train(str(spec))
    assert CANARY not in str(refused.value)
    sentry.wait_for(1)
    assert CANARY not in "".join(sentry.bodies)
    assert CANARY not in shown_in_prefect(prefect_api)
    assert found_below(home / "var") == []


def test_a_table_is_read_from_a_signed_address(home: Path, spec: Path) -> None:
    source = load_spec(spec).sources["rows"]
    assert CANARY in (source.path or ""), "what is read is the address as it was given"
    assert read_source("rows", source, home, {}).frame.height
    assert load_settings(VARIABLES).api_keys is not None
    assert CANARY not in repr(load_settings({k: v for k, v in VARIABLES.items() if k in ("WANDB_API_KEY", "PERENNIAL_API_KEYS")}))
