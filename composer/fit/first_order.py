"""Fits of models with many numbers, by gradients alone: L-BFGS and Adam on the gradient kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.fit.levenberg import Step
from composer.fit.loss import loss, missed, slope
from composer.fit.moments import Moments
from composer.fit.rows import Problem
from composer.model import Result

Array = NDArray[np.float64]


def loss_and_gradient(problem: Problem, u: Array, chunks: list[int] | None = None) -> tuple[float, Array]:
    """chi2 of the weighted residuals at u and its gradient [K], without any Jacobian; `chunks` chooses batches of the problem."""
    model, batches, targets = problem.at(u), problem.batches(), problem.targets()
    total, by_theta, by_offset = 0.0, np.zeros(model.size), 0.0
    for number in range(len(batches)) if chunks is None else chunks:
        batch, sizes = batches[number][1], targets[number].sizes
        found = loss(targets[number], _shifted(missed(targets[number], model(batch)), sizes, u[-1] * problem.offset))
        total, by_theta = total + found.value, by_theta + 2 * slope(model, batch, found)
        by_offset -= 2 * float((sizes[:, None] * found.by_virial.diagonal(dim1=1, dim2=2)).sum())
    return total, np.concatenate([by_theta[problem.active] * problem.slope(u), np.full(int(problem.offset), by_offset)])


def _shifted(change: Result, sizes: Tensor, offset: float) -> Result:
    """The change where the data's virials have an offset of so many eV for each of their atoms, sizes [S]."""
    return replace(change, virial=change.virial - torch.diag_embed(offset * sizes[:, None].expand(-1, 3)))


def lbfgs(problem: Problem, start: Array, limit: int = 500, report: Callable[[Step], None] = lambda step: None) -> tuple[Array, list[Step]]:
    """Minimise chi2 by L-BFGS (scipy) in coordinates scaled by the size of their gradients at first; returns u and the steps."""
    from scipy.optimize import minimize

    scale = _scales(problem, start)
    history: list[Step] = []
    last = [np.inf]

    def value(x: Array) -> tuple[float, Array]:
        last[0], gradient = loss_and_gradient(problem, start + scale * x)
        return last[0], gradient * scale

    def note(_: Array) -> None:
        history.append(Step(len(history), last[0], 0.0, True))
        report(history[-1])

    found = minimize(value, np.zeros(len(start)), jac=True, method="L-BFGS-B", callback=note, options={"maxiter": limit, "maxcor": 30})
    return start + scale * found.x, history


def adam(
    problem: Problem, start: Array, seed: int = 0, epochs: int = 200, rate: float = 0.05, report: Callable[[Step], None] = lambda step: None
) -> tuple[Array, list[Step]]:
    """Minimise chi2 by Adam over chunks in a seeded order, with a rate that falls as a cosine to zero; returns u and the steps."""
    random, scale = np.random.default_rng(seed), _scales(problem, start)
    x, moments = np.zeros(len(start)), Moments(mean=np.zeros(len(start)), square=np.zeros(len(start)))
    history: list[Step] = []
    for epoch in range(epochs):
        total = 0.0
        for chunk in random.permutation(len(problem.batches())):
            value, gradient = loss_and_gradient(problem, start + scale * x, [int(chunk)])
            total += value
            x = x - rate * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) * moments.direction(gradient * scale)
        history.append(Step(epoch, total, 0.0, True))
        report(history[-1])
    return start + scale * x, history


def _scales(problem: Problem, u: Array, atoms: int = 200) -> Array:
    """Sizes of the unknowns [K] that change chi2 alike, from the Jacobian of the first frames."""
    places, held = [], 0
    for place, frame in enumerate(problem.frames):
        if held < atoms:
            places.append(place)
            held += len(frame.positions)
    sample = problem.among(places, problem.model)
    norms = sample.factor(u).norms
    return 1.0 / np.where(norms > 0, norms, norms.max(initial=1.0))
