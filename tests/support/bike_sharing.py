"""The table of the second example, where a copy of it is at hand: the machines that run the tests have no internet."""

import os
from pathlib import Path

import pytest

from tests.support.processes import ROOT

VARIABLE = "BIKE_SHARING_CSV"
"""By which the example's loader, and a person who runs the tests, name the copy."""

HOURS = Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "data" / "bike_sharing_hour.csv")

needs_hours = pytest.mark.skipif(
    not HOURS.exists(), reason=f"{HOURS} is not there: point {VARIABLE} at hour.csv of the UCI Bike Sharing archive"
)
