"""Descriptors of the neuroevolution potential by moments, and the flat directions that they bring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from composer.quantities import BoundParam, Environment, NeighborAtom, Node, Range, element, stack, sum_over, total, where_less
from terms import radial
from terms.angular import direction, gaunt, harmonics
from terms.nep_channels import COUPLED

MANY = 8  # species beyond which coefficients are contracted for each neighbour and not for each species


def radial_descriptors(term: Any, env: Environment) -> tuple[Range, Node]:
    """q of the radial part, by channel."""
    j = env.neighbors(max(term.lengths(env.symbols, 0)))
    n, k = Range("channel", term.radials), Range("basis", term.radial_functions)
    return n, expanded(env, j, term.table("radial"), n, k, functions(term, env, j, 0))


def angular_descriptors(term: Any, env: Environment) -> tuple[Range, Range, Node]:
    """q of the angular part, by block and channel."""
    j = env.neighbors(max(term.lengths(env.symbols, 1)))
    n, k, degrees = Range("channel", term.angulars), Range("basis", term.angular_functions), term.l_max[0]
    values = [y for row in harmonics(direction(j), degrees)[1:] for y in row]
    m = Range("component", len(values))
    moments = expanded(env, j, term.table("angular"), n, k, functions(term, env, j, 1), stack(m, values))
    a = [[element(moments, m, l * l - 1 + i) for i in range(2 * l + 1)] for l in range(1, degrees + 1)]
    squares = [(2 * l + 1) / (4 * math.pi) * total(x**2 for x in a[l - 1]) for l in range(1, degrees + 1)]
    more = [coupled(a, *legs) if legs else 7 / 15 * squares[0] ** 2 for flag, legs in zip(term.l_max[1:], COUPLED) if flag]
    b = Range("block", term.blocks)
    return b, n, stack(b, [*squares, *more])


def functions(term: Any, env: Environment, j: NeighborAtom, part: int) -> list[Node]:
    """(T_k(x) + 1)/2 fc for k = 0 .. basis."""
    each = term.lengths(env.symbols, part)
    rc = env.table("pair", lambda a, b: 0.5 * (each[a] + each[b]))[j]
    values = radial.half_chebyshev(j.r, rc, term.basis[part] + 1)
    return values if len(set(each)) == 1 else [where_less(j.r, rc, v, 0.0) for v in values]


def expanded(env: Environment, j: NeighborAtom, c: BoundParam, n: Range, k: Range, functions: Sequence[Node], factor: Any = None) -> Node:
    """sum_j sum_k c_nk f_k(r_ij) factor. Without a factor and for few species neighbours are summed first, and c is left outside that loop; with
    one, whose components are more than the neighbours within its shorter cutoff, g_n of each neighbour comes first.
    """
    field = stack(k, functions)
    if factor is not None or len(env.symbols) > MANY:
        return sum_over(j, sum_over(k, c[j, n, k] * field) * (1.0 if factor is None else factor))
    return total(sum_over(k, c[t, n, k] * sum_over(j, field, species=t)) for t in env.species)


def coupled(a: Sequence[Sequence[Node]], l1: int, l2: int, l3: int) -> Node:
    """sum over m of (l1 l2 l3; m1 m2 m3) A A A, from moments a[l - 1][m + l] in Schmidt's normalisation."""
    products: dict[tuple[tuple[int, int], ...], float] = {}
    for i1, i2, i3, g in gaunt(l1, l2, l3):
        key = tuple(sorted(((l1, i1), (l2, i2), (l3, i3))))
        products[key] = products.get(key, 0.0) + g
    norm = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi) ** 3) / ((2 * l3 + 1) * three_j(l1, l2, l3))
    parts = [norm * g * (a[p[0] - 1][p[1]] * a[q[0] - 1][q[1]] * a[s[0] - 1][s[1]]) for (p, q, s), g in sorted(products.items())]
    return total(parts)


def three_j(l1: int, l2: int, l3: int) -> float:
    """The Wigner symbol (l1 l2 l3; 0 0 0) for an even sum of degrees."""
    g = (l1 + l2 + l3) // 2
    f = math.factorial
    squared = f(2 * g - 2 * l1) * f(2 * g - 2 * l2) * f(2 * g - 2 * l3) / f(2 * g + 1)
    return (-1) ** g * math.sqrt(squared) * f(g) / (f(g - l1) * f(g - l2) * f(g - l3))


def flat_directions(term: Any, tables: dict[str, Any]) -> list[dict[str, Any]]:
    """Changes of the tables that leave the energy as it is, to first order: channels may be mixed or scaled, weights make up for it.

    Arguments: tables [rows, *shape] by name, numpy. Returns: for each direction the changes of the tables it touches.
    """
    import numpy as np

    networks = len(tables["bias"])
    species = round(math.sqrt(len(tables["radial"])))
    centres = [[s] for s in range(species)] if networks == species else [list(range(species))]
    found = []
    for row, sites in enumerate(centres):
        rows = [s * species + t for s in sites for t in range(species)]
        for a, b in np.ndindex(term.radials, term.radials):
            c, w = np.zeros_like(tables["radial"]), np.zeros_like(tables["radial_weights"])
            c[rows, a] = tables["radial"][rows, b]
            scaler = tables["radial_scaler"].ravel()
            w[row, b] = -tables["radial_weights"][row, a] * scaler[a] / scaler[b]
            found.append({"radial": c, "radial_weights": w})
        for n in range(term.angulars if term.blocks else 0):
            c, w = np.zeros_like(tables["angular"]), np.zeros_like(tables["angular_weights"])
            c[rows, n] = tables["angular"][rows, n]
            degrees = np.array([2] * term.l_max[0] + [len(legs) or 4 for flag, legs in zip(term.l_max[1:], COUPLED) if flag])
            w[row, :, n] = -degrees[:, None] * tables["angular_weights"][row, :, n]
            found.append({"angular": c, "angular_weights": w})
    return found
