"""What a fit moves: logarithms of positive numbers, logits of bounded ones, plain values of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from composer.model import Model
from composer.model.entries import Entry

Array = NDArray[np.float64]
TINY = 1e-12  # least distance from a bound, as a share of the interval (or in the unit of the parameter)


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates z of the free numbers theta [P]: theta = z, low + exp(z), high - exp(z) or low + (high - low)/(1 + exp(-z)).

    Arguments: low and high [P], infinite where there is no bound.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, model: Model) -> Coordinates:
        """The coordinates that the declarations of a model's parameters ask for."""

        def least(entry: Entry) -> float:
            low = entry.bounds[0] if entry.bounds else -np.inf
            return max(low, 0.0) if entry.positive else low

        return cls(model.each(least), model.each(lambda entry: entry.bounds[1] if entry.bounds else np.inf))

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Numbers that are their own coordinate [P]."""
        return ~(np.isfinite(self.low) | np.isfinite(self.high))

    def coordinate(self, theta: Array) -> Array:
        """z of theta [P]; numbers at a bound are moved inside."""
        below, above = np.isfinite(self.low), np.isfinite(self.high)
        z = np.array(theta, dtype=np.float64)
        up, down = below & ~above, above & ~below
        z[up] = np.log(np.maximum(theta[up] - self.low[up], TINY))
        z[down] = np.log(np.maximum(self.high[down] - theta[down], TINY))
        both = below & above
        share = np.clip((theta[both] - self.low[both]) / (self.high[both] - self.low[both]), TINY, 1 - TINY)
        z[both] = np.log(share / (1 - share))
        return z

    def theta(self, z: Array) -> Array:
        """theta of z [P]."""
        return self._both(z)[0]

    def slope(self, z: Array) -> Array:
        """dtheta/dz [P]."""
        return self._both(z)[1]

    def _both(self, z: Array) -> tuple[Array, Array]:
        below, above = np.isfinite(self.low), np.isfinite(self.high)
        theta, slope = np.array(z, dtype=np.float64), np.ones(len(z))
        with np.errstate(over="ignore"):  # an infinite trial is refused where its residual is looked at
            up, down, both = below & ~above, above & ~below, below & above
            slope[up] = np.exp(z[up])
            theta[up] = self.low[up] + slope[up]
            slope[down] = -np.exp(z[down])
            theta[down] = self.high[down] + slope[down]
            share = 1 / (1 + np.exp(-z[both]))
        width = self.high[both] - self.low[both]
        theta[both], slope[both] = self.low[both] + width * share, width * share * (1 - share)
        return theta, slope


def at(model: Model, theta: Array) -> Model:
    """The model with other free numbers [P]."""
    return model.with_parameters(torch.from_numpy(np.ascontiguousarray(theta)))
