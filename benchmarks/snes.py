"""The separable natural evolution strategy that NEP is named after: a baseline for comparison only.

Z. Fan et al., Phys. Rev. B 104, 104309 (2021); T. Schaul, T. Glasmachers, J. Schmidhuber, GECCO (2011).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POPULATION, FIRST = 50, 0.1  # published defaults


@dataclass
class Snes:
    """A normal distribution of parameters, mean [P] and deviation [P], that moves towards what ranks well."""

    mean: Array
    deviation: Array
    random: np.random.Generator

    @classmethod
    def start(cls, size: int, seed: int) -> "Snes":
        random = np.random.default_rng(seed)
        return cls(random.uniform(-1, 1, size), np.full(size, FIRST), random)

    def generation(self, loss: Callable[[Array], float]) -> float:
        """Draw, rank, move; returns the least loss."""
        draws = self.random.normal(size=(POPULATION, len(self.mean)))
        found = np.array([loss(self.mean + self.deviation * d) for d in draws])
        ranked = draws[np.argsort(found)]
        utility = np.maximum(0.0, np.log(POPULATION / 2 + 1) - np.log(np.arange(1, POPULATION + 1)))
        utility = utility / utility.sum() - 1 / POPULATION
        rate = (3 + np.log(len(self.mean))) / (10 * np.sqrt(len(self.mean)))
        self.mean = self.mean + self.deviation * (utility @ ranked)
        self.deviation = np.minimum(1.0, self.deviation * np.exp(rate * (utility @ (ranked**2 - 1))))
        return float(found.min())
