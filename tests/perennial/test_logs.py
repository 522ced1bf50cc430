"""Log lines: UTC, component, module, no password; configured twice is configured once."""

import logging
import re
from collections.abc import Iterator

import pytest

from perennial.logs import LineFormatter, configure_logging
from perennial.settings import Settings


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:], root.level = handlers, level
    logging.getLogger("httpx").setLevel(logging.NOTSET)


def ours(root: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in root.handlers if isinstance(handler.formatter, LineFormatter)]


def test_a_line_says_when_how_bad_which_part_and_where(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(), "service")
    logging.getLogger("service.inference.model_watcher").warning("version %d is live", 3)
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING service service\.inference\.model_watcher: version 3 is live\n", line
    )


def test_times_are_utc():
    record = logging.makeLogRecord({"msg": "now", "name": "x", "levelname": "INFO", "created": 1_362_114_900.0})
    assert LineFormatter("100%").format(record) == "2013-03-01T05:15:00Z INFO 100% x: now"


def test_the_level_of_the_settings_counts_and_a_second_call_replaces_the_first(
    capsys: pytest.CaptureFixture[str], root: logging.Logger
):
    configure_logging(Settings(), "one")
    configure_logging(Settings(log_level="ERROR"), "two")
    logging.getLogger("tasks.training.fit").warning("hidden")
    logging.getLogger("tasks.training.fit").error("shown")
    assert capsys.readouterr().err.count("\n") == 1
    assert len(ours(root)) == 1


def test_libraries_do_not_log_every_request(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(log_level="DEBUG"), "replay")
    logging.getLogger("httpx").info("POST /predict")
    assert capsys.readouterr().err == ""


def test_no_password_is_logged_not_even_in_a_traceback(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(), "service")
    try:
        raise ConnectionError("redis://me:hunter2@example.org:6379/0 is gone")
    except ConnectionError:
        logging.getLogger("service.prediction_log.redis_client").exception("lost redis://me:hunter2@example.org")
    shown = capsys.readouterr().err
    assert "ConnectionError: redis://***@example.org:6379/0" in shown
    assert "hunter2" not in shown
