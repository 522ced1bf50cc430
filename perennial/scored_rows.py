"""Scored rows: a table with a model's answers beside it, the same for a batch prediction and for a notebook.

In go raw inputs with their event time; out come the id (where there is one) and the event time, the score, the label that the
service would have answered, and the version. Where a kept column is itself called `score`, `label` or `version`, what is added is
called `_score` and so on.
"""

import polars as pl

from perennial.model import Model
from perennial.schema import cast_series, refuse_missing
from perennial.spec import ModelSpec

ADDED = ("score", "label", "version")


def score_rows(model: Model, rows: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """Score every row; the spec says which columns are id and event time.

    Raises DataError naming a column that is missing, or column, row and value that do not fit. A multiclass score is a list: a
    probability for each of the card's `classes`.
    """
    refuse_missing(rows.columns, [spec.event_time])
    identity = [spec.id] if spec.id and spec.id in rows.columns else []
    given = rows.select(*identity, cast_series(rows[spec.event_time], "datetime"))
    scores = model.predict_frame(rows.with_columns(given[spec.event_time])).tolist()
    score, label, version = (f"_{name}" if name in given.columns else name for name in ADDED)
    return given.with_columns(
        pl.Series(score, scores, dtype=pl.List(pl.Float64) if model.card.classes else pl.Float64()),
        pl.Series(label, [model.label_of(one) for one in scores], dtype=model.label_codec.dtype),
        pl.lit(model.card.version, pl.Int64).alias(version),
    )
