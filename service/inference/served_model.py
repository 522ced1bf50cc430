"""A model of a worker: what follows its versions, what answers for it, and what keeps its predictions."""

from dataclasses import dataclass

from perennial.labels import LabelCodec, codec_of
from perennial.spec import ModelSpec
from service.inference.model_watcher import ModelWatcher
from service.inference.predictor import Predictor
from service.prediction_log.log import PredictionLog


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One of these for each model in each worker; nothing in it is shared with another model."""

    spec: ModelSpec
    watcher: ModelWatcher
    log: PredictionLog
    predictor: Predictor

    @property
    def name(self) -> str:
        return self.spec.name

    def label_codec(self) -> LabelCodec:
        """What a label may be: as the spec says, and as the training of the live version found the target."""
        live = self.watcher.live
        return codec_of(self.spec, live.card.label_texts if live else ())
