"""Independent eager energies on an edge list, and the double backward of training.

Written by hand from the published formulas, with torch alone: an oracle for the compiled kernels, and what most Python codes do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import vesin
from ase import Atoms
from torch import Tensor

from benchmarks import systems


@dataclass(frozen=True)
class Edges:
    """Directed pairs within a cutoff, and ordered pairs of edges that share their centre.

    Attributes:
        center, neighbor: int64 [E]; the vector of an edge is x[neighbor] + shift - x[center].
        shift: float64 [E,3] Å.
        first, second: int64 [T], different edges of one centre; empty unless asked for.
    """

    center: Tensor
    neighbor: Tensor
    shift: Tensor
    first: Tensor
    second: Tensor

    def vectors(self, positions: Tensor) -> Tensor:
        return positions[self.neighbor] + self.shift - positions[self.center]  # [E,3]


Energy = Callable[[Tensor, Tensor, Edges], Tensor]
"""Total energy in eV from positions [N,3] Å, parameters [P] and edges."""


def edges(atoms: Atoms, cutoff: float, triplets: bool = False) -> Edges:
    """Return the edges of a periodic cell, sorted by centre."""
    cell = np.asarray(atoms.cell)  # [3,3], rows are vectors
    found = vesin.NeighborList(cutoff=cutoff, full_list=True)
    i, j, s = found.compute(points=atoms.positions, box=cell, periodic=True, quantities="ijS")
    order = np.lexsort((j, i))
    i, j, s = i[order].astype(np.int64), j[order].astype(np.int64), s[order]
    first, second = _edge_pairs(np.bincount(i, minlength=len(atoms))) if triplets else (np.zeros(0, np.int64),) * 2
    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (i, j, s @ cell, first, second))
    return Edges(*tensors)


def _edge_pairs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all ordered pairs of different edges of one centre, for `counts` [N] edges per centre."""
    start = np.repeat(np.cumsum(counts) - counts, counts)  # [E] first edge of the centre of each edge
    degree = np.repeat(counts, counts)  # [E]
    first = np.repeat(np.arange(len(degree)), degree)
    within = np.arange(len(first)) - np.repeat(np.cumsum(degree) - degree, degree)
    second = np.repeat(start, degree) + within
    return first[first != second], second[first != second]


def parameters(values: Mapping[str, float]) -> Tensor:
    """Return the numbers of a table of `benchmarks.systems` in its order, float64 [P], ready to be differentiated."""
    return torch.tensor(list(values.values()), dtype=torch.float64, requires_grad=True)


def lj(x: Tensor, theta: Tensor, e: Edges) -> Tensor:
    """E = 1/2 sum 4 epsilon ((sigma / r)^12 - (sigma / r)^6), cut and not shifted."""
    epsilon, sigma = theta
    sixth = (sigma**2 / e.vectors(x).square().sum(1)) ** 3
    return (2 * epsilon * (sixth * sixth - sixth)).sum()


def eam(x: Tensor, theta: Tensor, e: Edges) -> Tensor:
    """E = sum_i F(rho_i) + 1/2 sum phi(r); formulas at `benchmarks.systems.EAM`."""
    b, length, A, B, depth, alpha = theta
    r = e.vectors(x).norm(dim=1)
    smooth = (1 - (r / systems.EAM_CUTOFF) ** 2) ** 3
    m = torch.exp(-alpha * (r - length))
    rho = _sum_at(e.center, torch.exp(-b * (r - length)) * smooth, len(x))
    return (-A * rho.sqrt() + B * rho).sum() + (0.5 * depth * (m * m - 2 * m) * smooth).sum()


def sw(x: Tensor, theta: Tensor, e: Edges) -> Tensor:
    """E = 1/2 sum A eps (B (s/r)^4 - 1) exp(s / (r - rc)) + 1/2 sum_jk lambda eps (cos - cos0)^2 g_j g_k, rc fixed."""
    epsilon, sigma, strength, gamma, A, B, cos0 = theta
    d = e.vectors(x)
    r = d.norm(dim=1)
    gap = r - systems.SW_CUTOFF
    pair = 0.5 * A * epsilon * (B * (sigma / r) ** 4 - 1) * torch.exp(sigma / gap)
    g = torch.exp(gamma * sigma / gap)
    bend = (_cosines(d, r, e) - cos0) ** 2 * g[e.first] * g[e.second]
    return pair.sum() + 0.5 * strength * epsilon * bend.sum()


def tersoff(x: Tensor, theta: Tensor, e: Edges) -> Tensor:
    """E = 1/2 sum fc(r) (A exp(-l1 r) - b B exp(-l2 r)), b = (1 + (beta zeta)^n)^(-1/2n).

    zeta_ij = sum_k fc(r_ik) g(cos) exp((l3 (r_ij - r_ik))^3), g = 1 + c^2/d^2 - c^2 / (d^2 + (cos0 - cos)^2).
    """
    A, B, lambda1, lambda2, lambda3, beta, n, c, d, cos0 = theta
    vectors = e.vectors(x)
    r = vectors.norm(dim=1)
    fc = _tersoff_cutoff(r)
    angle = 1 + (c / d) ** 2 - c**2 / (d**2 + (cos0 - _cosines(vectors, r, e)) ** 2)
    zeta = _sum_at(e.first, fc[e.second] * angle * torch.exp((lambda3 * (r[e.first] - r[e.second])) ** 3), len(r))
    order = (1 + (beta * zeta) ** n) ** (-1 / (2 * n))
    return (0.5 * fc * (A * torch.exp(-lambda1 * r) - order * B * torch.exp(-lambda2 * r))).sum()


def forces(energy: Energy, x: Tensor, theta: Tensor, e: Edges, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """Return energy in eV and forces [N,3] in eV/Å by backward."""
    x = x.detach().requires_grad_(True)
    value = energy(x, theta, e)
    (gradient,) = torch.autograd.grad(value, x, create_graph=create_graph)
    return value, -gradient


def loss(energy: Tensor, forces: Tensor, energy_target: Tensor, forces_target: Tensor) -> Tensor:
    """Return ((E - E*) / N)^2 + mean (F - F*)^2, the loss of the training rows."""
    return ((energy - energy_target) / len(forces)) ** 2 + (forces - forces_target).square().mean()


def training_gradient(energy: Energy, x: Tensor, theta: Tensor, e: Edges, energy_target: Tensor, forces_target: Tensor) -> Tensor:
    """Return d loss / d theta [P] by backward through a backward."""
    value, force = forces(energy, x, theta, e, create_graph=True)
    (gradient,) = torch.autograd.grad(loss(value, force, energy_target, forces_target), theta)
    return gradient


def _sum_at(index: Tensor, values: Tensor, size: int) -> Tensor:
    return values.new_zeros(size).index_add(0, index, values)


def _cosines(d: Tensor, r: Tensor, e: Edges) -> Tensor:
    u = d / r[:, None]
    return (u[e.first] * u[e.second]).sum(1)  # [T]


def _tersoff_cutoff(r: Tensor) -> Tensor:
    inner, outer = systems.TERSOFF_INNER, systems.TERSOFF_CUTOFF
    phase = torch.pi * (r - 0.5 * (inner + outer)) / (outer - inner)
    return torch.where(r < inner, 1.0, 0.5 - 0.5 * torch.sin(phase))
