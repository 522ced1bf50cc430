"""BentoML as its quickstart has it: a service class with one API."""

from typing import Any

import bentoml
from coding import load_booster, load_coding, predict


@bentoml.service(workers=1)
class Scores:
    """One worker."""

    def __init__(self) -> None:
        self.booster, self.coding = load_booster(), load_coding()

    @bentoml.api
    def predict(self, instances: list[dict[str, Any]]) -> dict[str, list[float]]:
        """Rows to scores."""
        return {"predictions": predict(self.booster, self.coding.matrix(instances))}
