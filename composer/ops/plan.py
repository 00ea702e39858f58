"""How a long-range sum is done: widths, cutoffs, orders and meshes from the accuracy asked for. No clock, no state: same input, same plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from composer.errors import BackendError
from composer.ops.bounds import MELT, SHARE
from composer.ops.splits import Gaussian, Split, candidates

ORDERS = (4, 5, 6, 7, 8)
PAIR_COST, WAVE_COST = 10.0, 3.0  # ns of one core for a pair, and for an atom and a vector: measured once, for choices only
CUTOFFS = tuple(2 ** (n / 4) for n in range(4, 17))  # 2 .. 16 Å
MOST_BYTES = 16e9  # a larger mesh is refused

Rows = tuple[tuple[float, ...], ...]  # cell [3, 3], Å


@dataclass(frozen=True)
class Plan:
    """`method` "ewald" with a cutoff (1/Å), or "mesh" with an order and three numbers of points; `cost` in ns of one core."""

    method: str
    cutoff: float = 0.0
    order: int = 0
    mesh: tuple[int, int, int] = (0, 0, 0)
    cost: float = 0.0


@lru_cache(maxsize=4096)  # a pure function of numbers, asked for at every call
def plan(
    cell: Rows,
    atoms: int,
    split: Split,
    accuracy: float,
    method: str = "auto",
    order: int | None = None,
    mesh: tuple[int, int, int] | None = None,
) -> Plan:
    """The cheaper of a sum over k and a mesh for one cell [3, 3] (Å).

    Arguments: cell; atoms in it; split of 1/r^p; accuracy, relative force error; method "auto", "ewald" or "mesh"; order
    and mesh to fix these by hand (of a mesh then).
    Errors: BackendError for unknown methods or orders, and for a mesh that would not fit in memory.
    """
    best = cheapest(cell, atoms, split, accuracy, method, order, mesh)
    if memory(best) > MOST_BYTES:
        raise BackendError(
            f"A long-range sum of relative accuracy {accuracy:g} was asked for",
            f"Its mesh of {best.mesh} points needs {1e-9 * memory(best):.0f} GB",
            "Ask for less accuracy or choose a longer cutoff",
        )
    return best


def cheapest(
    cell: Rows, atoms: int, split: Split, accuracy: float, method: str, order: int | None, mesh: tuple[int, int, int] | None
) -> Plan:
    """The plan of least cost, whether it fits in memory or not."""
    if method not in ("auto", "ewald", "mesh"):
        raise BackendError(f"The method {method!r} was asked for", "Known are auto, ewald, mesh and direct", 'Write method="auto"')
    if order is not None and order not in ORDERS:
        raise BackendError(f"A mesh of order {order} was asked for", "Forces need orders 4 to 8 to be smooth", "Write order=5")
    if mesh is not None and min(mesh) < (order or ORDERS[0]):
        raise BackendError(
            f"A mesh of {mesh} points was asked for",
            f"Order {order or ORDERS[0]} needs as many along each side",
            "Write more points, or leave mesh out",
        )
    volume = volume_of(cell)
    rho = max(atoms, 1) / volume
    by_hand = order is not None or mesh is not None  # then a mesh is meant
    chosen = [] if method == "mesh" or by_hand else [waves(cell, atoms, volume, rho, split, accuracy * SHARE)]
    if method != "ewald" or by_hand:
        orders = [n for n in ORDERS if mesh is None or n <= min(mesh)] if order is None else [order]
        chosen += [points(cell, atoms, rho, split, accuracy * SHARE, n, mesh) for n in orders]
    return min(chosen, key=lambda c: (c.cost, c.order))


def waves(cell: Rows, atoms: int, volume: float, rho: float, split: Split, error: float) -> Plan:
    """The sum over k: its cutoff and cost."""
    cutoff = split.waves(2.0 ** round(math.log2(rho)), error)  # of a ladder, so that similar structures share it
    vectors = volume * cutoff**3 / (12 * math.pi**2)  # half of the sphere
    return Plan("ewald", cutoff, cost=vectors * (WAVE_COST * atoms + 30.0))


def points(cell: Rows, atoms: int, rho: float, split: Split, error: float, order: int, mesh: tuple[int, int, int] | None = None) -> Plan:
    """A mesh of an order: the coarsest one that is fine enough, and its cost."""
    if mesh is None:
        h = split.spacing(rho, error, order)
        a, b, c = (smooth_even(max(length / h, order + 1)) for length in map(math.hypot, *zip(*cell, strict=True)))
        mesh = (a, b, c)
    total = math.prod(mesh)
    cost = atoms * (1.4 * order**3 + 40.0) + total * (0.8 * math.log2(total) + 2.5) + 2e5
    return Plan("mesh", 0.0, order, mesh, cost)


def memory(chosen: Plan) -> float:
    """Bytes of a mesh, its spectrum and its potential; 0 without one."""
    return 24.0 * math.prod(chosen.mesh)


def volume_of(cell: Rows) -> float:
    """Volume of a cell, Å^3."""
    (a, b, c), (d, e, f), (g, h, i) = cell
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


@lru_cache(maxsize=4096)
def smooth_even(least: float) -> int:
    """The smallest even number >= `least` without prime factors above 7."""
    n = 2 * math.ceil(least / 2 - 1e-9)
    while not _is_smooth(n):
        n += 2
    return n


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


@lru_cache(maxsize=4096)
def best(
    cell: Rows,
    atoms: int,
    p: float,
    accuracy: float,
    method: str = "auto",
    cutoff: float | None = None,
    sigma: float | None = None,
    order: int | None = None,
    mesh: tuple[int, int, int] | None = None,
    split: str = "auto",
) -> tuple[float, Split]:
    """Cutoff (Å) and split of the cheapest sum; a sigma (Å) asks for the Gaussian of that width.

    Cutoffs and densities are taken from ladders, so that similar structures share one choice.
    """
    if sigma is not None:
        rc = sigma * math.sqrt(2 * math.log(2 / MELT / accuracy / SHARE)) if cutoff is None else cutoff
        return float(rc), Gaussian(p, float(sigma))
    choices = CUTOFFS if cutoff is None else (float(cutoff),)
    rho = density(cell, atoms)
    pairs = [(rc, found) for rc in choices for found in candidates(p, rc, rho, accuracy, split)]
    return min(pairs, key=lambda pair: cost(cell, atoms, accuracy, *pair, method, order, mesh))


def cost(
    cell: Rows,
    atoms: int,
    accuracy: float,
    cutoff: float,
    split: Split,
    method: str = "auto",
    order: int | None = None,
    mesh: tuple[int, int, int] | None = None,
) -> float:
    """Time of the whole sum in ns of one core, for a cutoff (Å) in real space; infinite for a mesh that does not fit."""
    pairs = 0.5 * atoms * (atoms / volume_of(cell)) * 4 / 3 * math.pi * cutoff**3
    far = cheapest(cell, atoms, split, accuracy, method, order, mesh)
    return PAIR_COST * pairs + far.cost if memory(far) <= MOST_BYTES else math.inf


def density(cell: Rows, atoms: int) -> float:
    """Atoms per Å^3, rounded to a power of two."""
    return 2.0 ** round(math.log2(max(atoms, 1) / volume_of(cell)))
