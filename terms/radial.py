"""Cutoff functions and radial bases: the only place where they live.

A basis is a function (r, cutoff, size, inner) -> list of nodes. Every basis is constant below 0.7 inner, so that values and slopes stay
finite down to zero distance, and vanishes at the cutoff with slope and curvature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from composer.algebra.operators import is_number
from composer.errors import AlgebraError
from composer.quantities import Environment, NeighborAtom, Node, Range, Scalar, cos, exp, maximum, sin, stack, tanh, where_less

INNER = 0.25  # default start of the sampled range, as a fraction of the cutoff
Inner = float | tuple[tuple[str, str, float], ...] | None  # start of the sampled range (Å): one for all, or ("Mo", "Nb", 2.3), ...
DECAY = 0.45  # length over which the Chebyshev variable decays, as a fraction of the cutoff


def smooth(r: Node, cutoff: Scalar) -> Node:
    """(1 - (r/rc)^2)^3 below the cutoff: value, slope and curvature vanish at rc."""
    return (1 - (r / cutoff) ** 2) ** 3


def cosine(r: Node, cutoff: float) -> Node:
    """(1 + cos(pi r/rc))/2, value and slope vanish at rc. Source: J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007)."""
    return 0.5 + 0.5 * cos(r * (math.pi / cutoff))


def behler(r: Node, cutoff: float) -> Node:
    """tanh(1 - r/rc)^3 / tanh(1)^3: value, slope and curvature vanish at rc. Source: J. Behler, J. Chem. Phys. 134, 074106 (2011)."""
    return (tanh(1 - r / cutoff) / math.tanh(1.0)) ** 3


def tersoff(r: Node, inner: Scalar, outer: Scalar) -> Node:
    """1 below inner, 1/2 + cos(pi (r - inner)/(outer - inner))/2 up to outer, else 0; the slope is continuous.

    Source: J. Tersoff, Phys. Rev. B 37, 6991 (1988).
    """
    angle = (r - inner) / (outer - inner) * math.pi
    return where_less(r, inner, 1.0, where_less(r, outer, 0.5 + 0.5 * cos(angle), 0.0))


def above(r: Node, least: float) -> Node:
    """The larger of r and `least` (Å): keeps r^-n and d/r finite where atoms overlap."""
    return maximum(r, least)


def clamped(r: Node, inner: Scalar) -> Node:
    """r above `inner` (Å), 0.85 inner below 0.7 inner, and a quartic with continuous curvature in between."""
    width = 0.3 * inner
    t = maximum((r - (inner - width)) / width, 0.0)  # 0 .. 1
    return where_less(r, inner, (inner - 0.5 * width) + width * (t**3 - 0.5 * t**4), r)


def chebyshev(r: Node, cutoff: float, size: int, inner: float) -> list[Node]:
    """T_n(x) (1 - (r/rc)^2)^3 with x linear in exp(-r/(0.45 rc)), 1 at 0.85 inner and -1 at the cutoff."""
    decay = DECAY * cutoff
    high, low = math.exp(-0.85 * inner / decay), math.exp(-cutoff / decay)  # 0.85 inner is the least that `clamped` gives
    x = (exp(r / -decay) - low) * (2 / (high - low)) - 1
    values = [x * 0 + 1, x]
    for _ in range(2, size):
        values.append(2 * x * values[-1] - values[-2])
    return [v * smooth(r, cutoff) for v in values[:size]]


def half_chebyshev(r: Node, cutoff: Scalar, size: int) -> list[Node]:
    """fc and (T_k(x) + 1)/2 fc for k = 1 .. size - 1, x = 2 (r/rc - 1)^2 - 1, fc = (1 + cos(pi r/rc))/2: the slope is continuous.

    Source: Z. Fan et al., Phys. Rev. B 104, 104309 (2021).
    """
    reduced = r / cutoff
    fall = 0.5 + 0.5 * cos(reduced * math.pi)
    x = 2 * (reduced - 1) ** 2 - 1
    values = [x * 0 + 1, x]
    while len(values) < size:
        values.append(2 * x * values[-1] - values[-2])
    return [fall, *((0.5 * v + 0.5) * fall for v in values[1:size])]


def bessel(r: Node, cutoff: float, size: int, inner: float) -> list[Node]:
    """sqrt(2/rc) sin((n + 1) pi r/rc)/r times the cutoff function. Source: J. Gasteiger et al., arXiv:2003.03123 (2020)."""
    angle = r * (math.pi / cutoff)
    values = [sin(angle), 2 * cos(angle) * sin(angle)]
    for _ in range(2, size):
        values.append(2 * cos(angle) * values[-1] - values[-2])
    return [v * (math.sqrt(2 / cutoff) * smooth(r, cutoff) / r) for v in values[:size]]


def gaussian(r: Node, cutoff: float, size: int, inner: float) -> list[Node]:
    """exp(-((r - c_n)/w)^2 / 2) times the cutoff function, centres from `inner` to the cutoff, w their distance."""
    width = (cutoff - inner) / size
    return [exp(-0.5 * ((r - (inner + n * width)) / width) ** 2) * smooth(r, cutoff) for n in range(size)]


def bspline(r: Node, cutoff: float, size: int, inner: float) -> list[Node]:
    """Cubic B-splines on even knots: the first is centred at `inner`, the last ends at the cutoff with value, slope and curvature 0."""
    width = (cutoff - inner) / (size + 1)
    return [_cubic((r - (inner + n * width)) / width) for n in range(size)]


def _cubic(t: Node) -> Node:
    """The cardinal cubic B-spline: 2/3 at t = 0, zero beyond |t| = 2."""
    t = maximum(t, -t)
    return (maximum(2 - t, 0.0) ** 3 - 4 * maximum(1 - t, 0.0) ** 3) * (1 / 6)


BASES: dict[str, Callable[[Node, float, int, float], list[Node]]] = {
    "chebyshev": chebyshev,
    "bessel": bessel,
    "gaussian": gaussian,
    "bspline": bspline,
}


def basis(name: str, r: Node, cutoff: float, size: int, inner: Inner = None, own: Node | None = None) -> list[Node]:
    """The functions of a basis at the distance r; `inner` (Å) is where the sampled range starts, a quarter of the cutoff by default.

    With lengths for pairs of species the functions are those of the least, and `own`, the length of the pair, is where they level off.
    """
    start = least(inner, cutoff)
    return BASES[name](clamped(r, start if own is None else own), cutoff, size, start)


def functions(term: Any, env: Environment, j: NeighborAtom) -> list[Node]:
    """The functions of the basis of a term (fields basis, cutoff, n_max, inner) at the distance of j."""
    own = None
    if isinstance(term.inner, tuple):
        (own,) = lengths(env, j, term.inner, least(term.inner, term.cutoff))
    return basis(term.basis, j.r, term.cutoff, term.n_max, term.inner, own)


def channels(term: Any, env: Environment, j: NeighborAtom) -> tuple[Range, Node]:
    """The functions of the basis of a term as one field R[n] with its range n."""
    n = Range("n", term.n_max)
    return n, stack(n, functions(term, env, j))


def least(inner: Inner, cutoff: float) -> float:
    """Where the sampled range starts (Å): for the closest pair of species, if pairs have lengths of their own."""
    if inner is None:
        return INNER * cutoff
    return min(length for _, _, length in inner) if isinstance(inner, tuple) else inner


def check(term: Any) -> None:
    """Raise an AlgebraError unless the fields basis, n_max, cutoff and inner of a term make sense."""
    kind = type(term).__name__
    if term.basis not in BASES:
        raise AlgebraError(f"{kind} with the basis {term.basis!r} was asked for", f"Known are {', '.join(BASES)}", "Use one of these")
    if term.n_max < 1:
        raise AlgebraError(f"{kind} with n_max = {term.n_max} was asked for", "There must be at least one function", "Give n_max=4")
    check_lengths(term, "inner")
    if not 0 < least(term.inner, term.cutoff) < term.cutoff:
        found = f"It is not between 0 and the cutoff of {term.cutoff} Å"
        raise AlgebraError(f"{kind} with inner = {term.inner} Å was asked for", found, "Give the shortest distance that occurs, e.g. 1.5")


def check_lengths(term: Any, field: str) -> None:
    """Put a field that is a length (Å), lengths of pairs, or None in canonical form; AlgebraError for anything else."""
    value = getattr(term, field)
    if is_number(value):
        object.__setattr__(term, field, float(value))
    elif isinstance(value, tuple) and value:
        order_pairs(term, 1, field)
    elif value is not None:
        found = "It is no length in Å"
        raise AlgebraError(f"{type(term).__name__} with {field} = {value!r} was asked for", found, f"Give e.g. {field}=1.5")


Pairs = Sequence[Sequence[Any]]  # entries (symbol, symbol, length, ...): lengths in Å of single pairs of species


def order_pairs(term: Any, count: int, field: str = "pairs") -> None:
    """Check a field of lengths of pairs and put it in canonical order: symbols sorted in each entry, entries sorted, numbers as floats.

    Each entry holds two symbols and `count` lengths that rise to at most the cutoff (Å). Errors: AlgebraError for any other, and for a
    pair that stands twice.
    """
    given, limit = getattr(term, field), getattr(term, "cutoff", math.inf)
    for entry in given:
        symbols, found = (entry[:2], entry[2:]) if isinstance(entry, tuple) else ((), ())
        words = len(symbols) + len(found) == 2 + count and all(isinstance(s, str) for s in symbols)
        if not words or not all(0 < x <= y for x, y in itertools.pairwise((*found, limit))):
            why = f"It is not two symbols and {count} rising lengths up to {limit} Å"
            raise AlgebraError(f"Lengths of a pair of species were given as {entry!r}", why, 'Give e.g. ("C", "Si", 2.5)')
    rows = sorted((*sorted(entry[:2]), *map(float, entry[2:])) for entry in given)
    twice = [a[:2] for a, b in itertools.pairwise(rows) if a[:2] == b[:2]]
    if twice:
        raise AlgebraError(
            f"Lengths of pairs of species were given as {given!r}", f"{'-'.join(map(str, twice[0]))} stands twice", "Leave one out"
        )
    object.__setattr__(term, field, tuple(rows))


def lengths(env: Environment, j: NeighborAtom, pairs: Pairs, *default: float) -> list[Node]:
    """The lengths (Å) that `pairs` holds for the species of the site and of j, in either order, else the default."""
    known = {frozenset(entry[:2]): entry[2:] for entry in pairs}

    def entry(a: int, b: int) -> Sequence[float]:
        return known.get(frozenset((env.symbols[a], env.symbols[b])), default)

    return [env.table("pair", lambda a, b, n=n: entry(a, b)[n])[j] for n in range(len(default))]


def roughness(name: str, cutoff: float, size: int, inner: Inner = None) -> Any:
    """Gram matrix of second derivatives, G_ab = integral from inner to cutoff of R_a'' R_b'' dr, as numpy array [size, size] in 1/Å^3."""
    return _grams(name, cutoff, size, inner)[1]


def overlap(name: str, cutoff: float, size: int, inner: Inner = None) -> Any:
    """Gram matrix of the functions, integral from inner to cutoff of R_a R_b dr, as numpy array [size, size] in Å."""
    return _grams(name, cutoff, size, inner)[0]


def angular_roughness(name: str, cutoff: float, size: int, inner: Inner, degrees: int, like: bool = True) -> Any:
    """Roughness of f = sum c_lab R_a(r) R_b(r') P_l(cos) over l below `degrees` and a <= b (all a, b unless `like`), c as [l, (a, b)].

    Integral of f_rr^2 + f_r'r'^2 + (Laplacian on the sphere of radius rc/2)^2 over both distances and the cosine; like neighbours make f
    symmetric in r and r'.
    """
    import numpy as np

    flat, bent = _grams(name, cutoff, size, inner)
    pairs = [(a, b) for a in range(size) for b in range(a if like else 0, size)]
    fold = np.zeros((len(pairs), size * size))  # R_a(r) R_b(r'), symmetrised for like neighbours
    for row, (a, b) in enumerate(pairs):
        fold[row, a * size + b] += 0.5
        fold[row, b * size + a if like else a * size + b] += 0.5
    radial = fold @ (np.kron(flat, bent) + np.kron(bent, flat)) @ fold.T
    plain = fold @ np.kron(flat, flat) @ fold.T * (0.5 * cutoff) ** -4
    blocks = [2 / (2 * l + 1) * (radial + 2 * (l * (l + 1)) ** 2 * plain) for l in range(degrees)]
    whole = np.zeros((degrees * len(pairs), degrees * len(pairs)))
    for l, block in enumerate(blocks):
        whole[l * len(pairs) : (l + 1) * len(pairs), l * len(pairs) : (l + 1) * len(pairs)] = block
    return whole


def _grams(name: str, cutoff: float, size: int, inner: Inner) -> tuple[Any, Any]:
    """Gram matrices of the functions and of their second derivatives [size, size]."""
    import numpy as np

    r = Environment(["H"]).neighbors(cutoff).r
    grid = np.linspace(least(inner, cutoff), cutoff, 2001)
    step = grid[1] - grid[0]
    values = np.array([tabulate(f, grid) + 0 * grid for f in basis(name, r, cutoff, size, inner)])
    bent = np.gradient(np.gradient(values, step, axis=1, edge_order=2), step, axis=1, edge_order=2)
    weight = np.full(len(grid), step)
    weight[[0, -1]] /= 2
    return (values * weight) @ values.T, (bent * weight) @ bent.T


def tabulate(node: Node, r: Any) -> Any:
    """A function of one distance, such as a radial basis function, at the distances r (numpy array, Å)."""
    import numpy as np

    known: dict[Node, Any] = {}

    def value(node: Node) -> Any:
        if node not in known:
            known[node] = r if node.op == "norm" else _apply(np, node, [value(a) for a in node.args])
        return known[node]

    return value(node)


def _apply(np: Any, node: Node, args: list[Any]) -> Any:
    match node.op:
        case "const":
            return node.data[0]
        case "add":
            return sum(args)
        case "mul":
            return args[0] * args[1]
        case "pow":
            return args[0] ** node.data[0]
        case "where":
            return np.where(args[0] < args[1], args[2], args[3])
    return getattr(np, node.op)(args[0])
