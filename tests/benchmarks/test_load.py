"""The load: what wrk says is read, and a run with a failed request does not count."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.serve.errors import BenchError
from benchmarks.serve.load import Bodies, find_wrk, parse, post

SAID = """\
Running 5s test @ http://127.0.0.1:8000/predict
  Latency     4.10ms    2.00ms  30.00ms   90.00%%
{"requests":5000,"duration":5000000,"p50":4100,"p99":9050,"max":30000,"status":%d,"connect":0,"read":0,"write":0,"timeout":0}
"""


def test_times_are_milliseconds_and_rates_are_a_second():
    report = parse(SAID % 0, "here")
    assert (report.rps, report.p50_ms, report.p99_ms, report.max_ms) == (1_000, 4.1, 9.05, 30)


def test_one_failed_request_voids_the_run():
    with pytest.raises(BenchError, match=r"here: failed requests.*'status': 1"):
        parse(SAID % 1, "here")


def test_no_answer_at_all_is_no_figure():
    with pytest.raises(BenchError, match="--seconds"):
        parse((SAID % 0).replace('"requests":5000', '"requests":0'), "here")


def test_without_wrk_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match=r"(apt-get|brew) install wrk"):
        find_wrk()


@contextmanager
def answering(code: int) -> Iterator[tuple[str, set[bytes]]]:
    """A real HTTP server that gives every request this code; yields its URL and the bodies it was sent."""
    bodies: set[bytes] = set()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/predict", bodies
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    (tmp_path / "0").write_bytes(b"zero")
    (tmp_path / "1").write_bytes(b"o\0e")
    return Bodies(tmp_path, 2, "application/octet-stream", 1)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk makes the load, and is not on PATH")
def test_wrk_posts_every_body_as_it_is(bodies: Bodies):
    with answering(200) as (url, seen):
        report = post(url, bodies, connections=2, seconds=1)
    assert seen == {b"zero", b"o\0e"}
    assert report.requests > 2
    assert 0 < report.p50_ms <= report.p99_ms <= report.max_ms


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk makes the load, and is not on PATH")
def test_wrk_tells_of_answers_that_are_not_2xx(bodies: Bodies):
    with answering(503) as (url, _), pytest.raises(BenchError, match="failed requests"):
        post(url, bodies, connections=2, seconds=1)
