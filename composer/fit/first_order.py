"""Fits of models with many numbers, by gradients alone: L-BFGS and Adam on the gradient kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.fit.levenberg import Step
from composer.fit.moments import Moments
from composer.fit.rows import Problem
from composer.neighbors import Batch, motion

Array = NDArray[np.float64]


def loss_and_gradient(problem: Problem, u: Array, chunks: list[int] | None = None) -> tuple[float, Array]:
    """chi2 of the weighted residuals at u and its gradient [K], without any Jacobian; `chunks` chooses batches of the problem."""
    model = problem.at(u)
    slope = problem.slope(u)
    batches = problem.batches()
    total, by_theta, by_offset = 0.0, np.zeros(model.size), 0.0
    for number in range(len(batches)) if chunks is None else chunks:
        places, batch = batches[number]
        value, seed, moves, cell_moves, shift = _cotangents(problem, places, batch, model(batch), u)
        inputs = {"seed": seed, "seed_t": torch.ones(batch.atoms, dtype=torch.float64)}
        out = model.kernel("gradient")(batch, model.flat, inputs=inputs, moves=moves, cell_moves=cell_moves)
        assert out.gradient is not None
        total, by_theta, by_offset = total + value, by_theta + out.gradient[model.free].numpy(), by_offset + shift
    return total, np.concatenate([by_theta[problem.active] * slope, np.full(int(problem.offset), by_offset)])


def _cotangents(problem: Problem, places: list[int], batch: Batch, result: object, u: Array) -> tuple[float, Tensor, Tensor, Tensor, float]:
    """chi2 of a batch, its derivative by site energies [N], by forces and virials as the `motion` of sites and cells, and by the stress offset."""
    energy, forces, virial = (getattr(result, n).numpy() for n in ("energy", "forces", "virial"))
    bounds, scales, total, shift = batch.offsets.numpy(), problem.weights.scales, 0.0, 0.0
    seed, by_force, by_virial = np.zeros(batch.atoms), np.zeros((batch.atoms, 3)), np.zeros((batch.structures, 3, 3))
    for s, place in enumerate(places):
        frame, atoms = problem.frames[place], slice(bounds[s], bounds[s + 1])
        n = atoms.stop - atoms.start
        noise = {o: scales[o] * problem.weights.shape(o, frame) for o in scales if getattr(frame, o) is not None}
        if "energy" in noise:
            r = (energy[s] - frame.energy) / n / noise["energy"]  # type: ignore[operator]
            total, seed[atoms] = total + r**2, 2 * r / (n * noise["energy"])
        if "forces" in noise:
            size = np.broadcast_to(noise["forces"], 3 * n).reshape(n, 3)
            f = (forces[atoms] - frame.forces) / size
            total, by_force[atoms] = total + float(np.sum(f**2)), 2 * f / size
        if "stress" in noise and frame.stress is not None and frame.volume is not None:
            held = u[-1] * np.eye(3) if problem.offset else np.zeros((3, 3))
            w = np.triu((held - virial[s] / n - frame.stress * frame.volume / n) / noise["stress"])  # 6 components, each once
            total, by_virial[s] = total + float(np.sum(w**2)), -2 * w / (n * noise["stress"])
            shift += float(2 * np.trace(w) / noise["stress"])
    moves, cell_moves = motion(batch, torch.from_numpy(by_force), torch.from_numpy(by_virial))
    return total, torch.from_numpy(seed), moves, cell_moves, shift


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
