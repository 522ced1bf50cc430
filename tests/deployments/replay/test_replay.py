"""What of a table is replayed, and what is refused before anything is sent."""

from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deployments.replay.replay import Wishes, choose_stretch, replay_spec
from perennial.errors import DataError, RegistryError, StackError
from perennial.log_columns import EVENT_TIME
from tasks.job import Job, load_job
from tests.support import models
from tests.support.processes import free_port

LEARNT = 600  # of the 1,000 rows, an hour apart


def a_job(home: Path, learnt: int = LEARNT) -> Job:
    """The small spec with a champion that has learnt the first rows of its table; without one where there are none."""
    path, environ = models.write_small(home), {"PERENNIAL_HOME": str(home), "PERENNIAL_PORT": str(free_port())}
    job = load_job(path, environ, models.START)
    if learnt:
        models.publish_small(job.registry, models.train_small(models.small_frame(rows=learnt)))
    return job


def test_a_replay_begins_behind_what_the_champion_has_learnt_and_labels_come_after_the_lateness(tmp_path: Path) -> None:
    stretch = choose_stretch(a_job(tmp_path), Wishes(), Console(file=StringIO()))
    assert stretch.start == models.START + timedelta(hours=LEARNT)
    assert (stretch.label_delay, stretch.rows.height) == (timedelta(days=1), models.ROWS)


def test_rows_that_the_champion_knows_are_replayed_on_demand_and_it_is_said(tmp_path: Path) -> None:
    said = StringIO()
    stretch = choose_stretch(a_job(tmp_path), Wishes(start="2024-01-03", label_delay="12h"), Console(file=said, width=200))
    assert stretch.rows[0, EVENT_TIME] < stretch.start == models.START + timedelta(days=2)
    assert stretch.label_delay == timedelta(hours=12)
    assert "the champion has learnt rows until 2024-01-25 23:00: its answers about those are no forecasts" in said.getvalue()


@pytest.mark.parametrize(
    ("learnt", "wishes", "error", "words"),
    [
        (0, Wishes(), RegistryError, "small has no champion, so nothing would answer: run `perennial train"),
        (
            models.ROWS,
            Wishes(),
            DataError,
            "learnt every row of the table, the last one of 2024-02-11 15:00: `perennial train",
        ),
        (
            LEARNT,
            Wishes(start="2025-01-01"),
            DataError,
            "no row from 2025-01-01 00:00: it has rows from 2024-01-01",
        ),
        (LEARNT, Wishes(start="2024-02-01", until="2024-01-01"), DataError, "no row from 2024-02-01 00:00 to 2024-01-01 00:00"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_the_fix(
    tmp_path: Path, learnt: int, wishes: Wishes, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        choose_stretch(a_job(tmp_path, learnt), wishes, Console(file=StringIO()))


def test_without_a_service_nothing_is_sent(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no service answers at http"):
        replay_spec(a_job(tmp_path), Wishes(), Console(file=StringIO()))
