"""The rest of the serving benchmark that can be wrong without anybody seeing it in a table."""

import re
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest
import redis

from benchmarks.serve.bodies import FORMS, make_bodies, same_scores
from benchmarks.serve.envs import REQUIREMENTS
from benchmarks.serve.errors import BenchError
from benchmarks.serve.logged import drop_logged, take_logged
from benchmarks.serve.servers import QUICK, SERVERS, baseline
from benchmarks.serve.subject import CATEGORIES, NUMBERS, Subject, make_rows
from benchmarks.serve.usage import cpu_seconds, tree
from perennial.record import encode_batch
from service.inference.predictor import Predictor
from service.prediction_log.streams import append, predictions_stream
from tests.support import models
from tests.support.processes import python
from tests.support.waiting import wait_until

STREAM = predictions_stream("bench")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Rows and what a model would say of them; bodies need no model."""
    rows = make_rows(500).select(*NUMBERS, *CATEGORIES)
    matrix = np.arange(500 * 20, dtype=float).reshape(500, 20)
    return Subject(tmp_path, tmp_path, tmp_path, rows, matrix, np.linspace(0, 1, 500))


def test_rows_are_the_same_every_time():
    assert make_rows(300).equals(make_rows(300))
    assert make_rows(300).drop("asked_at", "outcome").columns == [*NUMBERS, *CATEGORIES]
    assert 0.3 < make_rows(2_000)["outcome"].mean() < 0.7  # type: ignore[operator]


def test_all_forms_carry_the_same_rows(subject: Subject):
    sent = {name: form.write(subject, 100, 2) for name, form in FORMS.items()}
    rows = subject.rows.slice(100, 2)
    assert orjson.loads(sent["instances"])["instances"] == rows.to_dicts()
    assert orjson.loads(sent["inputs"])["inputs"] == subject.matrix[100:102].tolist()
    (tensor,) = orjson.loads(sent["tensor"])["inputs"]
    assert (tensor["shape"], tensor["data"]) == ([2, 20], subject.matrix[100:102].ravel().tolist())


def test_bodies_of_one_size_hold_different_rows(subject: Subject, tmp_path: Path):
    bodies = make_bodies(subject, "instances", 1, tmp_path)
    assert len({(bodies.folder / str(number)).read_bytes() for number in range(bodies.count)}) == bodies.count > 100


def test_an_answer_with_another_score_is_recognised(subject: Subject):
    scores = subject.scores[:2].tolist()
    ours = {"predictions": [{"id": "a", "score": score, "label": True} for score in scores]}
    assert same_scores("instances", orjson.dumps(ours), subject, 2)
    assert same_scores("inputs", orjson.dumps({"predictions": scores}), subject, 2)
    assert same_scores("tensor", orjson.dumps({"outputs": [{"data": scores}]}), subject, 2)
    assert not same_scores("inputs", orjson.dumps({"predictions": scores[::-1]}), subject, 2)
    assert not same_scores("inputs", orjson.dumps({"predictions": scores[:1]}), subject, 2)


def test_rows_that_were_answered_and_not_logged_void_the_run(store: redis.Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.serve.logged.PATIENCE", 0.1)
    drop_logged(store, STREAM)
    append(store, STREAM, _batch(3))
    append(store, STREAM, _batch(2))
    take_logged(store, STREAM, 5, "here")
    assert not store.xlen(STREAM), "the store's memory must not grow with the run"
    append(store, STREAM, _batch(3))
    with pytest.raises(BenchError, match="4 rows were answered, but only 3 were logged"):
        take_logged(store, STREAM, 4, "here")


def test_a_server_that_should_log_nothing_may_log_nothing(store: redis.Redis):
    take_logged(store, None, 5, "here")
    append(store, STREAM, _batch(1))
    with pytest.raises(BenchError, match="it should log nothing"):
        take_logged(store, None, 5, "here")


def _batch(rows: int) -> bytes:
    from perennial.record import PredictionBatch

    frame = models.small_frame(rows=rows)
    times, ids = tuple(frame["asked_at"]), tuple(frame["row_id"])
    return encode_batch(PredictionBatch("bench", 1, times[0], ids, times, {"amount": tuple(frame["amount"])}, (0.5,) * rows))


def test_processor_time_of_descendants_counts_also_after_their_end():
    # The system counts in ticks, so a little more than is asked for.
    burn = "import time\nwhile time.process_time() < 0.4: pass\n"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen(python("-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_until(lambda: cpu_seconds(process.pid) >= 0.1, description="a descendant that works to be counted")
        assert process.stdout is not None
        process.stdout.readline()
        assert len(tree(process.pid)) == 1
        assert cpu_seconds(process.pid) >= 0.3
        process.communicate()
    assert tree(process.pid) == []


def test_what_the_silent_service_leaves_out_is_still_there():
    assert callable(Predictor._record)


def test_every_comparison_has_its_server():
    names = [server.name for server in SERVERS]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
    assert [server.name for server in SERVERS if server.in_bulk and server.name in QUICK] == [
        "perennial",
        "fastapi",
        "fastapi-tuned",
    ]
    assert baseline(Path("elsewhere"), 2).in_bulk
    assert {server.environment for server in SERVERS} - {None} == {path.stem for path in REQUIREMENTS.glob("*.txt")}


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_peer_is_pinned_by_version_and_hash(path: Path):
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    assert not [block for block in blocks if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+.*\\\n +--hash=sha256:", block)]
    assert "://" not in path.read_text()
