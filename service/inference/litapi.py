"""LitServe's API of this service. Every request passes `decode_request`, `predict` and `encode_response`, in this process.

`handle_batch` is what the HTTP loop calls: all requests that wait go through the three steps together, model by model; one
that is wrong, and a model that fails, spoil none of the others. LitServe's own loops would call the same steps.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from litserve import LitAPI

from service.decoding.responses import ResponseKey, Rows, explanation_rows, merge_rows, prediction_rows, response_body
from service.errors import JsonResponse, error_response

if TYPE_CHECKING:
    from service.inference.predictor import DecodedRequest, InferenceRequest, Prediction


class ServingWorker(Protocol):
    """What a worker process is to this API: as LitServe's loop it serves HTTP until it is told to end."""

    def serve_http(self, api: "PredictionAPI", handle: Any) -> None: ...


class PredictionAPI(LitAPI):  # type: ignore[misc]  # litserve ships no types
    """Travels to each worker process by pickle, so it holds nothing but `start` until LitServe calls `setup` there."""

    def __init__(self, start: Callable[[], ServingWorker]) -> None:
        super().__init__(max_batch_size=2)  # more than one: LitServe hands batches to `predict`
        self._start = start
        self.worker: ServingWorker

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes the device
        """Start this process's worker; it comes up without a champion too."""
        self.worker = self._start()

    def decode_request(self, request: "InferenceRequest") -> "DecodedRequest":
        """A body to checked rows; raises RequestError or ServiceError."""
        return request.predictor.decode(request, datetime.now(UTC))

    def predict(self, x: "Sequence[DecodedRequest]") -> "Sequence[Prediction]":
        """Checked rows of one model to scores, logged."""
        predictor = x[0].predictor
        explained = {place: predictor.explain(one) for place, one in enumerate(x) if one.operation == "explain"}
        asked = [one for one in x if one.operation == "predict"]
        predicted = iter(predictor.predict(asked, datetime.now(UTC)) if asked else ())
        return [explained[place] if place in explained else next(predicted) for place in range(len(x))]

    def encode_response(self, output: "Prediction") -> bytes:
        """The response's body; its version is the challenger's where that answered every row."""
        request = output.request
        key: ResponseKey = "explanations" if request.operation == "explain" else "predictions"
        if (parts := output.parts) is None:
            return response_body(request.model.model, key, _rows(output))
        other = parts.challenger.request.model.model
        if parts.champion is None:
            return response_body(other, key, _rows(parts.challenger))
        rows = merge_rows(parts.chosen, _rows(parts.champion), _rows(parts.challenger), other.card.version)
        return response_body(request.model.model, key, rows)

    def handle_batch(self, requests: "Sequence[InferenceRequest]") -> Sequence[JsonResponse]:
        """Responses in the order of the requests; never raises."""
        responses: list[Any] = [None] * len(requests)
        by_model: dict[int, dict[int, DecodedRequest]] = {}
        for place, request in enumerate(requests):
            try:
                by_model.setdefault(id(request.predictor), {})[place] = self.decode_request(request)
            except Exception as error:  # noqa: BLE001 - the outermost place that knows which request failed
                responses[place] = error_response(error, "worker")
        for decoded in by_model.values():
            for place, response in zip(decoded, self._answer([*decoded.values()]), strict=True):
                responses[place] = response
        return responses

    def _answer(self, decoded: "Sequence[DecodedRequest]") -> list[JsonResponse]:
        try:
            return [JsonResponse(200, self.encode_response(one), len(one.request.rows.ids)) for one in self.predict(decoded)]
        except Exception as error:  # noqa: BLE001
            first = decoded[0]
            card, id_ = first.model.card, first.rows.ids[0]
            said = error_response(error, "worker", model=card.name, version=card.version, prediction=id_)
            return [said] * len(decoded)


def _rows(part: "Prediction") -> Rows:
    model, ids = part.request.model.model, part.request.rows.ids
    if part.contributions is None:
        return prediction_rows(model, ids, part.scores)
    return explanation_rows(model, ids, part.scores, part.contributions)
