"""LitServe as its README has it: one worker, one API server, its own queue and transport."""

import sys
from typing import Any

import litserve as ls
from coding import Matrix, load_booster, load_coding, predict


class Scores(ls.LitAPI):
    """Decode, predict, encode."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes the device
        """Load the model in the worker."""
        self.booster, self.coding = load_booster(), load_coding()

    def decode_request(self, request: dict[str, Any]) -> Matrix:
        """JSON to numbers."""
        return self.coding.matrix(request["instances"])

    def predict(self, x: Matrix) -> list[float]:
        """Numbers to scores."""
        return predict(self.booster, x)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Scores to JSON."""
        return {"predictions": output}


if __name__ == "__main__":
    server = ls.LitServer(Scores(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
