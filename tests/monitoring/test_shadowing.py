"""Shadowing: who is compared with whom, on which rows, and what is booked; the world turns once, and nobody else errs."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from monitoring.champion_account import PROBATION, ChampionAccount
from monitoring.closing import close_window
from monitoring.session import MonitorSession
from monitoring.shadowing import Shadows, book, compare
from monitoring.state import MonitorState
from monitoring.window import Window, window_at
from perennial.errors import FunctionError
from perennial.log_columns import EVENT_TIME, LABEL
from perennial.metrics import Metrics, score
from perennial.model import Model
from perennial.model_loading import load_model
from perennial.registry import CHALLENGER, CHAMPION, Registry
from perennial.spec import ModelSpec, Task
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import START, TASKS, publish_small, small_frame, small_model, small_spec, train_small

WEEK = timedelta(weeks=1)
TURN = START + 4 * WEEK
"""Until here the old model learns; from here on what it learnt is wrong."""


def turned(weeks: int, task: Task = "binary", seed: int = 7, start: int = 0) -> pl.DataFrame:
    """Weeks after the turn, `start` weeks after it."""
    frame = small_frame(task, rows=24 * 7 * weeks, seed=seed, start=TURN + start * WEEK)
    wrong = {"binary": 1 - pl.col("outcome"), "regression": 20 - pl.col("outcome")}
    other = pl.col("outcome").replace({"low": "high", "high": "low"})
    return frame.with_columns(wrong.get(task, other).alias("outcome"))


def old(task: Task = "binary") -> Model:
    return small_model(task, rows=24 * 28)


def new(task: Task = "binary", weeks: int = 2) -> Model:
    """Trained on the first weeks after the turn."""
    return train_small(turned(weeks, task), task)


def week(number: int) -> Window:
    """The window so many weeks after the turn."""
    return window_at(TURN + number * WEEK, WEEK)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def session(tmp_path: Path, registry: Registry, rows: pl.DataFrame, labelled: bool = True) -> MonitorSession:
    """A monitor of the champion whose log holds the rows."""
    version = registry.aliases("small").champion
    assert version is not None
    watched = MonitorSession(small_spec(), tmp_path, load_model(registry, "small", version, Path()), TURN, registry, Path())
    add_predictions(watched.archive, [predicted(watched.model, rows)])
    if labelled:
        add_labels(watched.archive, [told(watched.model, rows)])
    return watched


def shadows(watched: MonitorSession, window: Window) -> Shadows:
    found = watched.judge(window).shadows
    assert found is not None
    return found


def booked(
    watched: MonitorSession, windows: Sequence[Window], account: ChampionAccount | None = None, spec: ModelSpec | None = None
) -> ChampionAccount:
    account = account or ChampionAccount(champion=watched.model.card.version)
    for window in windows:
        account = book(account, window, shadows(watched, window), spec or small_spec())
    return account


@pytest.mark.parametrize("task", TASKS)
def test_a_newer_model_that_is_right_makes_the_champions_loss_avoidable(task: Task) -> None:
    """Who swaps the two books a gain as a loss."""
    rows = archived(turned(1, task, start=3), old(task))
    found = compare(week(3), rows, old(task), new(task), small_spec(task))
    assert found is not None
    assert found.difference.excess > 4 * found.difference.error > 0
    assert found.champion_loss > 1.5 * found.other_loss
    assert found.champion_loss / found.other_loss == pytest.approx(1 + found.difference.excess)
    assert (found.rows, found.window) == (24 * 7, week(3))
    back = compare(week(3), rows, new(task), old(task), small_spec(task))
    assert back is not None
    assert back.difference.excess < 0


def test_both_models_score_the_rows_anew_whoever_answered_them() -> None:
    """The scores in the log are the old model's; were they taken for the champion's, the two would not differ so."""
    champion, other = new(), old()
    rows = archived(turned(1, start=3), old())
    found = compare(week(3), rows, champion, other, small_spec())
    assert found is not None
    assert found.champion_loss < found.other_loss


@pytest.mark.parametrize("knows", [0.25, 0.5])
def test_no_row_that_either_was_trained_on_is_compared(knows: float) -> None:
    """A model that has learnt part of a window by heart would win on it."""
    frame = turned(1, start=3)
    learnt = frame.head(int(knows * frame.height))
    rows = archived(frame, old())
    found = compare(week(3), rows, old(), train_small(learnt), small_spec())
    assert found is not None
    assert found.rows == frame.height - learnt.height
    assert compare(week(3), rows, train_small(learnt), old(), small_spec()) is not None
    assert compare(week(3), rows, old(), train_small(frame), small_spec()) is None


def archived(frame: pl.DataFrame, model: Model) -> pl.DataFrame:
    """The rows as the log gives them back."""
    labels = model.label_codec.parse_column(frame["outcome"]).alias(LABEL)
    return frame.with_columns(labels).rename({"asked_at": EVENT_TIME})


def test_the_newest_challenger_that_knows_little_of_the_window_shadows(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    for weeks in (1, 2, 3):
        publish_small(registry, new(weeks=weeks), promote=False)
    watched = session(tmp_path, registry, turned(5))
    found = [shadows(watched, week(number)).challenger(week(number)) for number in range(5)]
    assert [model.card.version if model else None for model in found] == [None, 2, 3, 4, 4]


def test_a_version_that_was_champion_shadows_nobody_and_neither_does_one_of_other_inputs(
    tmp_path: Path, registry: Registry
) -> None:
    """One that was rolled back does not come back as a challenger."""
    publish_small(registry, old())
    publish_small(registry, new())
    registry.promote("small", CHAMPION, 1, expect=2, reason="rolled back: by the test", now=TURN)
    watched = session(tmp_path, registry, turned(5))
    assert shadows(watched, week(4)).challengers() == []
    assert shadows(watched, week(4)).predecessor() is None, "what was rolled back is no predecessor"
    fewer = small_spec().model_copy(update={"features": {"amount": small_spec().features["amount"]}})
    publish_small(registry, train_small(turned(2), spec=fewer), promote=False)
    assert shadows(session(tmp_path, registry, turned(5)), week(4)).challengers() == []


def test_each_closed_window_is_booked_and_a_promotion_begins_anew(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    publish_small(registry, new(), promote=False)
    watched = session(tmp_path, registry, turned(6))
    account = booked(watched, [week(number) for number in range(2, 6)])
    assert [one.window for one in account.challengers] == [week(number) for number in range(2, 6)]
    assert {one.version for one in account.challengers} == {2}
    assert account.avoidable.promotion_due(0.2, 1)
    assert account.predecessor == (), "the first champion replaced nobody"
    assert MonitorState(account=account).account_of(1) == account
    assert MonitorState(account=account).account_of(2) == ChampionAccount(champion=2)


def test_the_predecessor_is_scored_for_four_windows(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, new())
    publish_small(registry, old())
    account = booked(session(tmp_path, registry, turned(8)), [week(number) for number in range(2, 8)])
    assert [one.version for one in account.predecessor] == [1] * PROBATION
    assert account.regression.champion_better < 0.01, "the world has turned: the predecessor is right"
    assert account.challengers == ()


def test_a_window_waits_for_its_labels_and_is_booked_once(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    publish_small(registry, new(), promote=False)
    rows = turned(6)
    watched = session(tmp_path, registry, rows, labelled=False)
    account = booked(watched, [week(2), week(3)])
    assert (account.challengers, account.waiting) == ((), (week(2), week(3)))
    late = rows.filter(pl.col("asked_at").is_between(week(2).start, week(2).end, closed="left"))
    add_labels(watched.archive, [told(watched.model, late)])
    account = booked(watched, [week(4)], account)
    assert ([one.window for one in account.challengers], account.waiting) == ([week(2)], (week(3), week(4)))
    contrary = late.with_columns((1 - pl.col("outcome")).alias("outcome"))
    add_labels(watched.archive, [told(watched.model, contrary, received_at=TURN + 20 * WEEK)])
    again = book(account, None, shadows(watched, week(5)), small_spec())
    assert again == account, "what comes when a window is booked changes no entry"


def test_windows_that_wait_in_vain_are_counted_up_to_the_limit(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    watched = session(tmp_path, registry, turned(9), labelled=False)
    account = booked(watched, [week(number) for number in range(9)])
    limit = small_spec().policy.unlabelled_windows
    assert account.waiting == tuple(week(number) for number in range(9 - limit - 1, 9))
    assert MonitorState(account=account).account_of(2).waiting == account.waiting, "a promotion brings no labels"


def test_a_window_with_few_labels_is_not_booked(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    publish_small(registry, new(), promote=False)
    rows = turned(4)
    watched = session(tmp_path, registry, rows, labelled=False)
    some = rows.filter(pl.col("asked_at") >= week(2).start).head(24 * 3)
    add_labels(watched.archive, [told(watched.model, some)])
    assert booked(watched, [week(2)]).waiting == (week(2),)


def test_a_challenger_that_fails_holds_no_window_up(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_small(registry, old())
    publish_small(registry, new(), promote=False)
    watched = session(tmp_path, registry, turned(4))

    def fail(*_: object) -> None:
        raise FunctionError("the function is gone")

    with monkeypatch.context() as patch:
        patch.setattr("perennial.features.CompiledFeatures.matrix", fail)
        assert booked(watched, [week(2)]) == ChampionAccount(champion=1)
    (tmp_path / "registry/models/small/versions/2/model.json").write_text("{")
    assert booked(session(tmp_path, registry, turned(4)), [week(2)]) == ChampionAccount(champion=1)


def test_the_newest_training_is_that_of_champion_or_challenger(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, old())
    watched = session(tmp_path, registry, turned(4))
    assert shadows(watched, week(3)).newest_until() == old().card.until
    version = publish_small(registry, new(), promote=False)
    registry.promote("small", CHALLENGER, version, expect=None, reason="published", now=TURN)
    assert shadows(watched, week(3)).newest_until() == new().card.until


def test_a_rollback_moves_the_alias_and_says_why(tmp_path: Path, registry: Registry) -> None:
    publish_small(registry, new())
    publish_small(registry, old())
    watched = session(tmp_path, registry, turned(4))
    shadows(watched, week(3)).roll_back(1, "because", TURN)
    assert registry.aliases("small").champion == 1
    assert registry.history("small")[-1].reason == "rolled back: because"
    assert list(registry.withdrawn("small")) == [2]


@pytest.mark.parametrize("evidence", [{"promised": -0.04}, {}])
def test_what_a_promotion_promised_stands_beside_what_it_turned_out_to_be(
    tmp_path: Path, registry: Registry, evidence: dict[str, float]
) -> None:
    publish_small(registry, new())
    version = publish_small(registry, old(), promote=False)
    registry.promote("small", CHAMPION, version, expect=1, reason="better", now=TURN, evidence=evidence)
    watched = session(tmp_path, registry, turned(4))
    promised = shadows(watched, week(3)).promised()
    statement = booked(watched, [week(2), week(3)]).statement(small_spec(), WEEK, promised=promised)
    assert statement.turned_out is not None
    assert statement.turned_out > 1, "the predecessor is right"
    head = "promised -4.0% of the loss" if evidence else "nothing was compared at its promotion"
    assert statement.truth() == f"{head}, turned out {statement.turned_out:+.1%} beside version 1"


@pytest.mark.parametrize(
    "rows",
    [
        pl.lit(1).alias("outcome"),  # a single class
        pl.lit(0.5).alias("amount"),  # a constant feature
        pl.lit(None, pl.Float64).alias("amount"),
    ],
)
def test_a_strange_window_is_compared_without_an_error(rows: pl.Expr) -> None:
    found = compare(week(3), archived(turned(1, start=3).with_columns(rows), old()), old(), new(), small_spec())
    assert found is not None
    assert found.difference.error < 1


def test_rows_that_the_challenger_answered_are_judged_as_its_own_and_compared_by_both(tmp_path: Path, registry: Registry) -> None:
    """The champion is judged by its own scores of every row, whoever answered it; what clients were told is kept by version."""
    first, second = publish_small(registry, old()), publish_small(registry, new(), promote=False)
    registry.promote("small", CHALLENGER, second, expect=None, reason="published", now=TURN)
    frame = turned(1, start=3)
    taken = pl.Series([number % 3 == 0 for number in range(frame.height)])
    watched = session(tmp_path, registry, frame.filter(~taken))
    challenger = load_model(registry, "small", second, Path())
    add_predictions(watched.archive, [predicted(challenger, frame.filter(taken))])
    add_labels(watched.archive, [told(challenger, frame.filter(taken))])
    closed = close_window(week(3), watched.judge(week(3)), manual(), MonitorState(), 0.0, week(4).end)
    result, rows = closed.result, {first: frame.filter(~taken), second: frame.filter(taken)}
    assert (result.version, result.findings.rows) == (first, frame.height)
    assert result.rows_by_version == {version: some.height for version, some in rows.items()}
    by_version = {version: _metrics(load_model(registry, "small", version, Path()), some) for version, some in rows.items()}
    assert list(result.served_by_version) == [first, second]
    for version, served in result.served_by_version.items():
        assert (served.rows, served.values) == (by_version[version].rows, pytest.approx(by_version[version].values))
    assert by_version[second].values["log_loss"] < by_version[first].values["log_loss"], "the challenger is right"
    assert result.metrics is not None
    assert result.metrics.values == pytest.approx(_metrics(watched.model, frame).values)
    assert result.account is not None
    assert result.account.newest is not None
    compared = result.account.newest
    assert (compared.version, compared.rows) == (second, frame.height), "both on the same rows"
    assert compared.champion_loss == pytest.approx(_metrics(watched.model, frame).values["log_loss"])
    assert compared.other_loss == pytest.approx(_metrics(challenger, frame).values["log_loss"])


def manual() -> ModelSpec:
    """A spec by which a window asks for nothing, so that no event is sent."""
    spec = small_spec()
    return spec.model_copy(update={"policy": spec.policy.model_copy(update={"promote": "manual", "train_on": ()})})


def _metrics(model: Model, frame: pl.DataFrame) -> Metrics:
    return score("binary", model.label_codec.encode_column(frame["outcome"]), model.predict_frame(frame))
