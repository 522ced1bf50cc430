"""The array type that scores, labels and matrices share. A module of its own, because half of the kernel imports it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
