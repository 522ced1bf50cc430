"""What the Prefect UI is shown reads as a story."""

from datetime import UTC, datetime, timedelta

from monitoring.avoidable_loss import ExcessLoss
from monitoring.calibration import Calibration
from monitoring.champion_account import AccountStatement, ChampionAccount, PairedLoss
from monitoring.diagnosis import Diagnosis
from monitoring.policy import Decision, Findings
from monitoring.state import WindowResult
from monitoring.window import window_at
from perennial.log_columns import SCORE
from perennial.metrics import Metrics
from tasks.data.validate import Checks, Problem
from tasks.promotion.gate import Verdict
from tasks.reporting.artifacts import checks_markdown, evaluation_markdown, markdown_table, verdict_markdown, window_markdown
from tasks.training.evaluate import CalibrationRow, Evaluation
from tests.support.models import small_model

NONE = small_model().reference[SCORE].to_numpy()[:0]


def test_a_table_escapes_bars_and_rounds_numbers() -> None:
    table = markdown_table(("a|b", "n"), [("x|y", 1 / 3), (None, 12_345)])
    assert table.splitlines() == ["| a|b | n |", "| --- | --- |", "| x\\|y | 0.33333 |", "|  | 12345 |"]


def test_an_evaluation_says_what_was_trained_and_how_good_it_is() -> None:
    evaluation = Evaluation(
        Metrics(rows=9, values={"auc": 0.75}), (CalibrationRow(predicted=0.2, observed=0.25, rows=9),), (), NONE, NONE
    )
    page = evaluation_markdown(small_model(version=3), evaluation, Calibration(bounds={"drift": 0.1}, blocks=3))
    assert "# small version 3" in page
    assert "Trained on 1,000 rows from 2024-01-01 to 2024-02-11 15:00, 20 rounds, because: initial." in page
    assert "| auc | 0.75 |" in page
    assert "| 0.2 | 0.25 | 9 |" in page
    assert "| drift | 0.1 |" in page
    assert "**Warning**: the monitor will never alarm on loss, auc: no bound." in page


def test_a_verdict_names_both_versions() -> None:
    verdict = Verdict(
        decision="promote", reason="better", metric="log_loss", challenger=0.4, champion=0.5, champion_version=2, rows=300
    )
    page = verdict_markdown(small_model(version=3), verdict)
    assert "# PROMOTE: small version 3" in page
    assert "| challenger | 3 | 0.4 |" in page
    assert "| champion | 2 | 0.5 |" in page


def test_checks_list_what_was_set_aside() -> None:
    problem = Problem(column="amount", what="is below 0", rows=2, examples=("-1.0",))
    page = checks_markdown(Checks(rows=1_000, bad_rows=2, unlabelled=5, problems=(problem,), quarantine="/bad.parquet"))
    assert "1,000 rows, 2 bad, 5 without a label." in page
    assert "- amount: is below 0 in 2 rows, such as -1.0" in page


def an_account() -> AccountStatement:
    """Version 3 beside a better challenger and a worse predecessor."""

    def beside(version: int, loss: float) -> PairedLoss:
        difference = ExcessLoss(excess=0.6 / loss - 1, error=0.02)
        window = window_at(datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=7))
        return PairedLoss(window=window, version=version, rows=160, champion_loss=0.6, other_loss=loss, difference=difference)

    kept = ChampionAccount(champion=3, challengers=(beside(4, 0.48),), predecessor=(beside(2, 0.8),))
    return kept.statement(small_model().card.spec, timedelta(days=7), promised=-0.3)


def test_a_window_shows_its_signals_against_their_bounds() -> None:
    result = WindowResult(
        model="small",
        version=3,
        findings=Findings(
            window=window_at(datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=7)),
            rows=168,
            labelled=160,
            values={"drift": 0.5, "loss": 0.6, "auc": 0.7},
            bounds={"drift": 0.1, "loss": 0.55, "auc": 0.65},
            null_increases={"amount": 0.02},
            expected_loss=0.42,
            means=(0.31, 0.28),
        ),
        diagnosis=Diagnosis(kind="covariate drift", reason="the features have moved", features=("amount",)),
        rows_by_version={3: 168},
        distances={"amount": 0.7, "shop": 0.1},
        metrics=Metrics(rows=160, values={"log_loss": 0.6, "auc": 0.7, "brier": 0.2}),
        served_metrics=None,
        unknown_categories={},
        account=an_account(),
        decision=Decision(kind="drift", reason="drift 0.5 is over its bound 0.1", event_id="abc"),
        report="/reports/1.html",
        closed_at=datetime(2024, 1, 9, tzinfo=UTC),
    )
    page = window_markdown(result)
    assert "# small: 2024-01-01 00:00 to 2024-01-08 00:00" in page
    assert "**drift**: drift 0.5 is over its bound 0.1" in page
    assert "**Diagnosis**: covariate drift: the features have moved (amount)." in page
    assert "confidence a loss of 0.42 was to be expected; over the 160 labels that have come it is 0.6." in page
    assert "Mean of the labels 0.31, of the same rows' scores 0.28." in page
    assert "| drift | 0.5 | 0.1 |" in page
    assert "| loss | 0.6 | 0.55 |" in page
    assert "| AUC | 0.7 | 0.65 |" in page
    assert "| brier | 0.2 |" in page
    assert page.index("| amount | 0.7 |") < page.index("| shop | 0.1 |")
    assert "Event `abc`." in page
    assert "Avoidable loss 0.25 ± 0.02 of 0.2 in 1 windows, which pays a promotion; 0.25 expected of the next window." in page
    assert "P(version 3 is better than its predecessor) = 1." in page
    assert "Version 3: promised -30.0% of the loss, turned out -25.0% beside version 2." in page
    assert "| challenger | 4 | 2024-01-01 00:00 to 2024-01-08 00:00 | 160 | 0.6 | 0.48 | +25.00% ± 2.00% |" in page
    assert "| predecessor | 2 | 2024-01-01 00:00 to 2024-01-08 00:00 | 160 | 0.6 | 0.8 | -25.00% ± 2.00% |" in page
