"""The model: estimator, card, reference profile and reference sample as one value, and as files.

The files hold text, JSON and Parquet only: nothing in them is run. The card names the learner, and the learner reads and
writes the estimator's file, whose name it gives.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from perennial.arrays import Floats
from perennial.base import Stored, StoredModel, read_stored
from perennial.errors import CorruptVersion
from perennial.features import CompiledFeatures, compile_features
from perennial.labels import LabelCodec, StoredLabel
from perennial.learner import Estimator, load_learner
from perennial.log_columns import EVENT_TIME, SCORE
from perennial.model_card import ModelCard
from perennial.profile import Profile
from perennial.row_encoder import RowEncoder, compile_row_encoder
from perennial.schema import Schema, cast_frame

CARD_FILE, PROFILE_FILE, REFERENCE_FILE = "model.json", "profile.json", "reference.parquet"

REFERENCE_ROWS = 5_000  # rows of the reference sample: enough for Evidently's report, under a MB for flights


@dataclass(frozen=True)
class Model:
    """A model that can answer. `reference` holds raw inputs and `_event_time`, `_score` (a list for multiclass)."""

    card: ModelCard
    estimator: Estimator
    profile: Profile
    reference: pl.DataFrame
    compiled: CompiledFeatures
    encoder: RowEncoder

    def predict_frame(self, frame: pl.DataFrame) -> Floats:
        """`predict_matrix` of raw rows with their event time; raises DataError for a missing column or a foreign value."""
        return self.predict_matrix(self.compiled.matrix(frame))

    def predict_matrix(self, matrix: Floats) -> Floats:
        """Scores of encoded rows (n, k), as `CompiledFeatures.matrix` makes them: (n,), or (n, classes) for multiclass."""
        if len(matrix) == 0:
            return np.empty((0, len(self.card.classes)) if self.card.classes else (0,))
        return self.estimator.predict(matrix)

    def explain_matrix(self, matrix: Floats) -> Floats:
        """What each feature adds to the raw score, and last the base value: (n, k + 1), or (n, classes, k + 1).

        They sum to the raw score: the log-odds, the value, or each class's score before the softmax.
        """
        if len(matrix) == 0:
            width = matrix.shape[1] + 1
            return np.empty((0, len(self.card.classes), width) if self.card.classes else (0, width))
        return self.estimator.explain(matrix)

    @property
    def label_codec(self) -> LabelCodec:
        """Which labels the model knows; the spec's `classes` are no part of it, for the spec may have more by now."""
        return LabelCodec(self.card.task, self.card.classes, texts=self.card.label_texts)

    def label_of(self, score: float | Sequence[float]) -> StoredLabel:
        return self.label_codec.decode(score, self.card.spec.label_threshold)

    def with_version(self, version: int) -> "Model":
        """The same model under another version: what `Registry.publish` asks for."""
        return replace(self, card=self.card.model_copy(update={"version": version}))


def build_model(card: ModelCard, estimator: Estimator, profile: Profile, reference: pl.DataFrame, base: Path) -> Model:
    """Put a model together; `base` is the spec's directory, for user functions."""
    compiled = compile_features(card.features, base)
    return Model(card, estimator, profile, reference, compiled, compile_row_encoder(card.features, base))


def sample_reference(frame: pl.DataFrame, scores: Floats, schema: Schema, seed: int) -> pl.DataFrame:
    """At most 5,000 rows of `frame` in order of time: raw inputs, `_event_time` and `_score`."""
    sample = cast_frame(frame, schema).select(*schema.names, pl.col(schema.event_time).alias(EVENT_TIME))
    sample = sample.with_columns(
        pl.Series(SCORE, scores.tolist(), dtype=pl.Float64() if scores.ndim == 1 else pl.List(pl.Float64()))
    )
    if sample.height > REFERENCE_ROWS:
        sample = sample.sample(REFERENCE_ROWS, seed=seed)
    return sample.sort(EVENT_TIME, maintain_order=True)


def to_files(model: Model) -> dict[str, bytes]:
    """The files of a version; the same model gives the same bytes."""
    reference = io.BytesIO()
    model.reference.write_parquet(reference, compression="zstd")
    learner, estimator = load_learner(model.card.learner), model.estimator.to_bytes()
    texts = {CARD_FILE: _to_json(model.card), PROFILE_FILE: _to_json(model.profile)}
    return {learner.file: estimator, **texts, REFERENCE_FILE: reference.getvalue()}


def from_files(files: Mapping[str, bytes], base: Path) -> Model:
    """A model from its files; `base` as in `build_model`. Raises CorruptVersion naming the file that is missing or unreadable."""
    card = card_from_files(files)
    profile = _from_json(Profile, PROFILE_FILE, _file(files, PROFILE_FILE))
    learner, columns = load_learner(card.learner), len(card.features.names)
    estimator = learner.from_bytes(_file(files, learner.file))
    if estimator.columns != columns:
        raise CorruptVersion(f"{learner.file} takes {estimator.columns} features, but {CARD_FILE} describes {columns}")
    try:
        reference = pl.read_parquet(_file(files, REFERENCE_FILE))
    except pl.exceptions.PolarsError as error:
        raise CorruptVersion(f"{REFERENCE_FILE} is not a Parquet file: {error}") from error
    return build_model(card, estimator, profile, reference, base)


def card_from_files(files: Mapping[str, bytes]) -> ModelCard:
    """The card among a version's files; raises CorruptVersion."""
    return _from_json(ModelCard, CARD_FILE, _file(files, CARD_FILE))


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise CorruptVersion(f"the version has no {name}; publish it again")
    return files[name]


def _to_json(value: StoredModel) -> bytes:
    # Keys keep their order: the order of features and sources has a meaning, and it is the same every time.
    return (json.dumps(value.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n").encode()


def _from_json(kind: type[Stored], name: str, data: bytes) -> Stored:
    try:
        return read_stored(kind, data, name)
    except ValidationError as error:
        raise CorruptVersion(f"{name} is not a {kind.__name__.lower()} this release can read: {error}") from error
