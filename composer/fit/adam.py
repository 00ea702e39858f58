"""Adam over mini-batches of structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from composer.fit.descent import Descent, State
from composer.fit.loss import slope
from composer.fit.moments import Moments
from composer.fit.recipe import Epoch

Array = NDArray[np.float64]


@dataclass(kw_only=True)
class AdamState(Moments, State):
    """Numbers, moments of their gradient, and a running mean of its norm."""

    norm: float = 0.0


class Adam(Descent):
    """Mini-batches in a seeded order; E0 is solved from the energies after each epoch, never learned."""

    State = AdamState

    def start(self) -> AdamState:
        theta = self.model.theta.numpy().copy()
        self.solve_references(theta, self.energies(theta))
        return AdamState(theta, theta.copy(), mean=np.zeros_like(theta), square=np.zeros_like(theta))

    def epoch(self, state: AdamState) -> Epoch:
        """All batches once in a seeded order, then E0 and the errors."""
        order = np.random.default_rng([self.seed, 1, state.epoch]).permutation(len(self.batches))
        sums, losses, energies = np.zeros((3, 2)), [], []
        for number in order:
            part, model = self.batches[number], self.at(state.theta)
            found, energy = self.misses(model, part, len(part.frames))
            self.step(state, 2 * (slope(model, part.batch, found) + self.ridge(state.theta)))
            losses.append(found.value)
            sums += found.squares
            energies.append((part.frames, energy))
        state.epoch += 1
        self.solve_references(state.theta, energies)
        return self.report_of(state, float(np.mean(losses)), sums)

    def step(self, state: AdamState, gradient: Array) -> None:
        """One step with a clipped gradient; E0 is left out."""
        gradient = gradient.copy()
        gradient[self.references] = 0.0
        norm = float(np.linalg.norm(gradient))
        state.norm = norm if state.steps == 0 else 0.9 * state.norm + 0.1 * norm
        if norm > self.recipe.clip * state.norm:
            gradient *= self.recipe.clip * state.norm / norm
        direction = state.direction(gradient)
        state.theta = state.theta - self.rate(state.steps) * direction

    def rate(self, step: int) -> float:
        """Linear from zero over the warm-up, then a cosine to the last rate."""
        r, each = self.recipe, len(self.batches)
        warm, whole = r.warmup * each, r.epochs * each
        if step <= warm:
            return r.rate * step / warm
        share = (step - warm) / max(whole - warm, 1)
        return r.last + 0.5 * (r.rate - r.last) * (1 + np.cos(np.pi * min(share, 1.0)))
