"""The addresses of the service: which model each is about, how it is counted, and where its requests have places.

`/models/{name}/predict` is the long address of a model's `/predict`; the short one means the model where there is one alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.settings import Right
from service.metrics import RouteLabels
from service.web.in_flight import InFlight, ModelInFlight

PROBES = frozenset({"/health", "/ready"})  # never refused: a probe has no key, and is answered when there is too much work
METRICS = frozenset({"/metrics"})
DOCS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
MODELS = "/models"
OF_A_MODEL = ("/predict", "/explain", "/feedback", "/model", "/ready")  # each has a long address for every model
PAGES_OF_A_MODEL = ("/docs", "/openapi.json")
UI, UI_OF_A_MODEL = "/ui", "/ui/"  # what a browser shows; a model's has more addresses below it
# Routes with counters of their own; any other address counts as `other`, or a scanner would fill the memory.
MEASURED = frozenset({*OF_A_MODEL, MODELS, *PROBES, *METRICS})
OTHER = "other"
RIGHT_OF: dict[str, Right] = {"/predict": "predict", "/explain": "predict", "/feedback": "feedback"}


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is about; the second of its labels is the model, empty where it is about none or all."""

    labels: RouteLabels
    in_flight: InFlight
    is_probe: bool = False

    @property
    def model(self) -> str:
        return self.labels[1]

    @property
    def right(self) -> Right | None:
        """What an API key must be allowed to do, to post here."""
        return RIGHT_OF.get(self.labels[0])


class RouteTable:
    """The route of each address of a worker; finding one is one look into a dictionary."""

    def __init__(self, names: Sequence[str], max_requests: int) -> None:
        self.names, self.in_flight = tuple(names), InFlight(max_requests)
        self._other = Route((OTHER, ""), self.in_flight)
        whole = PROBES | METRICS | {MODELS}
        self._routes = {path: Route((path, ""), self.in_flight, path in PROBES) for path in whole}
        for name in names:
            self._routes |= self._routes_of(name)

    def find(self, path: str) -> Route:
        return self._routes.get(path) or self._routes.get(ui_of(path), self._other)

    def _routes_of(self, name: str) -> dict[str, Route]:
        is_alone = len(self.names) == 1
        share = self.in_flight if is_alone else ModelInFlight(name, self.in_flight)
        short = {path: Route((path, name), share, path in PROBES) for path in OF_A_MODEL}
        pages = {long_path(name, path): Route((OTHER, name), share) for path in (*PAGES_OF_A_MODEL, UI_OF_A_MODEL)}
        found = {long_path(name, path): route for path, route in short.items()} | pages
        return found | {long_path(name): short["/model"]} | (short if is_alone else {})


def ui_of(path: str) -> str:
    """The address of the page that an address lies below; empty where there is none."""
    model, below, _ = path.partition(UI_OF_A_MODEL)
    return model + below if below else ""


def long_path(name: str, path: str = "") -> str:
    """The address of a model's `path`, the one without a path being the model itself."""
    return f"{MODELS}/{name}{path}"
