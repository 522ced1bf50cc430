"""The array types that scores, labels, matrices and choices of rows share, in a module of their own: half the kernel uses it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Indices = NDArray[np.intp]  # places of rows in a table
