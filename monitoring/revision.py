"""Revision: a closed window is measured again once more of its labels have come.

Its loss, its other metrics and its diagnosis are then those of the labels there are; what was decided when it closed, and what
was sent, stays. A window that another champion closed is left as it is: its figures are about that one. Costs one measurement
where labels have come, and reading the rows where none have.
"""

import numpy as np

from monitoring.closing import Judge, diagnose_window, judged_rows, served_metrics
from monitoring.measurement import measure
from monitoring.state import WindowResult, load_result, save_result
from monitoring.window import Window
from perennial.log_columns import LABEL, SCORE
from perennial.spec import ModelSpec


def revise(window: Window, judge: Judge, spec: ModelSpec) -> WindowResult | None:
    """The window's result by the labels there are now, in place of the old one; None where that would say nothing new."""
    result, model = load_result(judge.archive.home, window), judge.model
    if result is None or result.version != model.card.version or result.findings.labelled == result.findings.rows:
        return None
    _, rows = judged_rows(window, judge)
    if np.count_nonzero(~np.isnan(model.label_codec.encode_column(rows[LABEL]))) <= result.findings.labelled:
        return None
    measured = measure(model, model.compiled.table(rows), rows[LABEL], rows[SCORE])
    of_labels = {"labelled": measured.labelled, "unknown_labels": measured.unknown_labels, "values": measured.values}
    of_losses = {"means": measured.means, "moved_loss": measured.moved_loss}
    findings = result.findings.model_copy(update=of_labels | of_losses)
    diagnosis = diagnose_window(findings, measured, result.account, model, spec)
    metrics = {"metrics": measured.metrics, "served_metrics": measured.served, "served_by_version": served_metrics(rows, judge)}
    revised = result.model_copy(update={"findings": findings, "diagnosis": diagnosis, **metrics})
    save_result(judge.archive.home, revised)
    return revised
