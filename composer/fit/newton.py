"""Second-order training: Levenberg-Marquardt by conjugate gradients.

A step solves (J^T J + ridge + damping D) step = -J^T r. A product with J is one forward derivative of the model, one with J^T a gradient: J itself is
never formed. Conjugate gradients end after some ten products by the preconditioner, the same matrix from a sample of the rows of J, formed and
factorised every few steps; beyond DENSE numbers it is the diagonal alone. E0 is solved after each step. D is the largest diagonal of J^T J so far
(J. J. More, Lecture Notes in Mathematics 630, 105 (1978)).

Output weights enter linearly too, but solving for them exactly after each step was measured to be worse: many weights and few distinct features
make them large, and the next steps short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sla
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from composer.errors import DataError
from composer.fit.descent import Descent, Part, State
from composer.fit.loss import loss, slope
from composer.fit.recipe import Epoch
from composer.model import Model

Array = NDArray[np.float64]
DENSE = 6000  # numbers up to which the sampled matrix is formed (0.3 GB)
SAMPLED = 2.0  # rows of forces in a sample, for each number of the matrix
FRESH = 5  # steps for which a sample serves
NEAR = 0.1  # residual of the equations at which a step is good enough
PRODUCTS = 30  # most products of a step
FIRST, LEAST, MOST = 1e-2, 1e-9, 1e9  # damping, relative to the scale
SHARES = (1.0, 0.5, 0.25, 0.125)  # of a step that are tried
LESS, GOOD = 0.3, 0.5  # damping is reduced where a step keeps this share of its promise
FLOOR = 1e-8  # of the largest scale: numbers that the data hardly see still do not run away
SIX = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # components of a virial


@dataclass(kw_only=True)
class NewtonState(State):
    """Damping, and where and when the sample of rows was taken."""

    anchor: Array
    scale: Array  # largest diagonal so far (J. J. More, 1978)
    anchored: int = 0
    damping: float = FIRST
    stuck: bool = False


class Newton(Descent):
    """An epoch is a step on the loss of all frames. Errors: DataError for models that read scalars of neighbours or sum over all atoms."""

    State = NewtonState
    sample: tuple[int, Array] | None = None  # epoch of the sample, and its matrix [P, P] or diagonal [P]

    @property
    def matrices(self) -> int:
        return 3 if self.model.size <= DENSE else 0

    def start(self) -> NewtonState:
        if not self.model.one_stage:
            found = "It reads scalars of neighbours or sums over all atoms, and then a row of its Jacobian is no small sum"
            raise DataError(f"Second-order training of {self.model.expression} was asked for", found, 'Write method="adam"')
        theta = self.referenced(self.model.theta.numpy().copy())
        return NewtonState(theta, theta.copy(), anchor=theta.copy(), scale=np.zeros_like(theta))

    def epoch(self, state: NewtonState) -> Epoch:
        with threadpool_limits(1, "blas"):
            self.step(state, self.preconditioner(state))
        state.epoch += 1
        model = self.at(state.theta)
        found = [self.misses(model, part, self.count)[0] for part in self.batches]
        return self.report_of(state, sum(f.value for f in found), np.sum([f.squares for f in found], axis=0))

    def ended(self, state: NewtonState) -> str:
        return "no step lowers the loss any more" if state.stuck else ""

    def step(self, state: NewtonState, matrix: Array) -> None:
        """The first damped step, or part of it, that lowers the cost; the more of it had to be given up, the more damping follows."""
        before, down = self.cost(state.theta), self.down(state.theta)
        state.scale = np.maximum(state.scale, _diagonal(matrix))
        state.scale = np.maximum(state.scale, FLOOR * state.scale.max())
        ridge = self.ridge(np.ones(self.model.size))
        while state.damping < MOST:
            held = ridge + state.damping * state.scale
            step, image = conjugate_gradients(self.product(state.theta, held), down, solver(matrix, held), NEAR, PRODUCTS)
            gain, curvature = float(2 * step @ down), float(step @ (image - state.damping * state.scale * step))
            for share in SHARES:
                theta = self.referenced(state.theta + share * step)
                fall = before - self.cost(theta)
                if fall > 0:
                    quality = fall / (share * gain - share**2 * curvature)
                    state.damping *= 1 / share if share < 1 else LESS if quality > GOOD else 1.0
                    state.damping, state.theta = max(state.damping, LEAST), theta
                    return
            state.damping /= SHARES[-1]
        state.stuck = True

    def referenced(self, theta: Array) -> Array:
        """The numbers with E0 solved."""
        self.solve_references(theta, self.energies(theta))
        return theta

    # ---- the loss of all frames

    def cost(self, theta: Array) -> float:
        """Loss and ridge."""
        model = self.at(theta)
        return sum(self.misses(model, part, self.count)[0].value for part in self.batches) + float(theta @ self.ridge(theta))

    def down(self, theta: Array) -> Array:
        """Minus half the gradient of the cost [P]."""
        model = self.at(theta)
        return -self.ridge(theta) - np.sum([slope(model, p.batch, self.misses(model, p, self.count)[0]) for p in self.batches], axis=0)

    def product(self, theta: Array, held: Array) -> Callable[[Array], Array]:
        """v [P] to (J^T J + diag(held)) v."""
        model, share = self.at(theta), 1 / self.count

        def of(v: Array) -> Array:
            changes = [model.along(p.batch, torch.from_numpy(v)) for p in self.batches]
            parts = [slope(model, p.batch, loss(p.targets, c, share)) for p, c in zip(self.batches, changes, strict=True)]
            return np.sum(parts, axis=0) + held * v

        return of

    # ---- the preconditioner

    def preconditioner(self, state: NewtonState) -> Array:
        """The sampled matrix, taken anew after some steps; a run that was stopped takes it where it was taken before."""
        if state.epoch - state.anchored >= FRESH or state.epoch == 0:
            state.anchored, state.anchor = state.epoch, state.theta.copy()
        if self.sample is None or self.sample[0] != state.anchored:
            self.sample = state.anchored, self.sampled(state.anchor, state.anchored, min(self.model.size, DENSE))
        return self.sample[1]

    def sampled(self, theta: Array, draw: int, numbers: int) -> Array:
        """J^T J from all rows of energies and virials and as many rows of forces as `numbers` ask for: [P, P], or its diagonal."""
        model, random = self.at(theta), np.random.default_rng([self.seed, 2, draw])
        atoms = sum(part.batch.atoms for part in self.batches)
        share = min(1.0, SAMPLED * numbers / (3 * atoms))
        dense = model.size <= DENSE
        total = np.zeros((model.size, model.size) if dense else model.size)
        for part in self.batches:
            rows = self.rows(model, part, random, share)
            total += rows.T @ rows if dense else np.sum(rows**2, axis=0)
        return total

    def rows(self, model: Model, part: Part, random: np.random.Generator, share: float) -> Array:
        """Weighted rows [m, P] of a part; those of forces are a random share, with weights that make up for it."""
        frames, batch, r = part.frames, part.batch, self.recipe
        n = batch.offsets.diff().cpu().numpy().astype(float)
        home = np.repeat(np.arange(len(frames)), n.astype(int))
        known = np.flatnonzero([frames[s].forces is not None for s in home]) if r.forces else np.zeros(0, int)
        chosen = np.sort(random.choice(known, int(np.ceil(share * len(known))), replace=False)) if len(known) else known
        strained = np.array([bool(r.virial) and f.stress is not None and f.volume is not None for f in frames])
        jacobian = model.rows(batch, torch.from_numpy(chosen), bool(strained.any()))
        found = [jacobian.energy.cpu().numpy() * np.sqrt(r.energy / self.count) / n[:, None]]
        if len(known):
            weight = np.sqrt(r.forces / (3 * self.count * n[home[chosen]]) * len(known) / len(chosen))
            found.append((jacobian.forces.cpu().numpy() * weight[:, None, None]).reshape(-1, model.size))
        if strained.any():
            virial = jacobian.virial.cpu().numpy()[:, SIX[0], SIX[1]][strained]
            found.append((virial * np.sqrt(r.virial / (6 * self.count)) / n[strained, None, None]).reshape(-1, model.size))
        return np.concatenate(found)


def conjugate_gradients(
    product: Callable[[Array], Array], rhs: Array, precondition: Callable[[Array], Array], tolerance: float, limit: int
) -> tuple[Array, Array]:
    """Solve A x = rhs for a positive A given by products, until the preconditioned residual has fallen by `tolerance`; x and A x."""
    x, left = np.zeros_like(rhs), rhs
    z = precondition(left)
    direction, size = z, float(left @ z)
    first = size
    for _ in range(limit):
        if size <= tolerance**2 * first:
            break
        image = product(direction)
        amount = size / float(direction @ image)
        x, left = x + amount * direction, left - amount * image
        z = precondition(left)
        size, before = float(left @ z), size
        direction = z + size / before * direction
    return x, rhs - left


def solver(matrix: Array, held: Array) -> Callable[[Array], Array]:
    """Solutions with matrix + diag(held), of a matrix [P, P] or of a diagonal [P]."""
    if matrix.ndim == 1:
        return lambda v: v / (matrix + held)
    scale = 1 / np.sqrt(np.diagonal(matrix) + held)
    scaled = matrix * scale[:, None] * scale
    scaled[np.diag_indices(len(scale))] = 1.0 + 1e-12  # rounding of a singular matrix
    factor = sla.cho_factor(scaled, lower=True, overwrite_a=True)
    return lambda v: scale * sla.cho_solve(factor, scale * v)


def _diagonal(matrix: Array) -> Array:
    return np.diagonal(matrix) if matrix.ndim == 2 else matrix
