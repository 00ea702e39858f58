"""The steps of Adam: running moments of a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DECAYS = 0.9, 0.999  # of the mean gradient and of its square


@dataclass(kw_only=True)
class Moments:
    """Running means of a gradient and of its square, both [P].

    Source: D. P. Kingma and J. Ba, arXiv 1412.6980 (2014).
    """

    mean: Array
    square: Array
    steps: int = 0

    def direction(self, gradient: Array) -> Array:
        """Take a gradient [P] in: mean over root mean square, freed of the bias of their start, along which (times a rate) to go down."""
        self.steps += 1
        self.mean = DECAYS[0] * self.mean + (1 - DECAYS[0]) * gradient
        self.square = DECAYS[1] * self.square + (1 - DECAYS[1]) * gradient**2
        mean, size = self.mean / (1 - DECAYS[0] ** self.steps), np.sqrt(self.square / (1 - DECAYS[1] ** self.steps))
        return mean / (size + 1e-12)
