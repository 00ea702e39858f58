"""The neuroevolution potential: Chebyshev and angular descriptors of a site, and a small network on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import (
    BoundParam,
    Environment,
    NeighborAtom,
    Node,
    Param,
    Range,
    cos,
    element,
    stack,
    sum_over,
    tanh,
    total,
    where_less,
)
from terms.angular import direction, gaunt, harmonics

COUPLED = ((2, 2, 2), (), (1, 1, 2), (1, 2, 3), (2, 3, 3), (1, 3, 4))  # degrees of the invariants of l_max[1:]; () is q_1111
MANY = 8  # species beyond which coefficients are contracted for each neighbour and not for each species

Pairwise = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NEP(Term):
    """E_i = sum_mu w_mu (tanh(sum_nu W_mu,nu s_nu q_nu - b_mu) - tanh(-b_mu)): zero for an isolated atom (E0 holds the constant).

    q: sum_j g_n(r_ij), n = 0 .. n_max[0]; then on g_n of the second table |A_nl|^2 for l = 1 .. l_max[0] with A_nlm = sum_j g_n Y_lm, and the
    invariants of three A that the flags l_max[1:] choose: 222, 1111 (= 7/15 q_n1^2), 112, 123, 233, 134. g_n = sum_k c_nk (T_k(x) + 1)/2 fc,
    k = 0 .. basis, x = 2 (r/rc - 1)^2 - 1, fc = (1 + cos(pi r/rc))/2. cutoff (Å): radial, angular; `elements` gives others for
    single elements, (("Te", 8.0, 4.0), ...), and a pair has the mean of both. radial and angular c per ordered pair, without unit;
    weights W, bias b and output w (eV) per species, for all species together in version 3; scaler s is not fitted.
    Source: Z. Fan et al., Phys. Rev. B 104, 104309 (2021); J. Chem. Phys. 157, 114801 (2022).
    """

    smoothness: ClassVar[int] = 1
    cutoff: tuple[float, float] = (8.0, 4.0)
    n_max: tuple[int, int] = (4, 4)
    basis: tuple[int, int] = (8, 8)
    l_max: tuple[int, ...] = (4, 2, 0)
    neurons: int = 30
    version: int = 4
    elements: Pairwise = ()
    radial = Param(per="ordered pair", shape=("radials", "radial_functions"), start="start_radial")
    angular = Param(per="ordered pair", shape=("angulars", "angular_functions"), start="start_angular")
    radial_weights = Param(per="species", shape=("radials", "neurons"), start="start_radial_weights")
    angular_weights = Param(per="species", shape=("blocks", "angulars", "neurons"), start="start_angular_weights")
    bias = Param(per="species", shape=("neurons",), start="start_bias")
    output = Param(unit="eV", per="species", shape=("neurons",), amplitude=True, start="start_output")
    radial_scaler = Param(1.0, shape=("radials",), fitted=False)
    angular_scaler = Param(1.0, shape=("blocks", "angulars"), fitted=False)

    def check(self) -> None:
        pairs = (self.cutoff, self.n_max, self.basis)
        if not all(isinstance(p, tuple) and len(p) == 2 for p in pairs) or not all(
            isinstance(x, int) and x >= 0 for x in (*self.n_max, *self.basis)
        ):
            found = f"cutoff = {self.cutoff}, n_max = {self.n_max}, basis = {self.basis}"
            raise AlgebraError("NEP was asked for", found, "Give pairs (radial, angular), e.g. cutoff=(8, 4), n_max=(4, 4), basis=(8, 8)")
        object.__setattr__(self, "cutoff", tuple(map(float, self.cutoff)))
        degrees, *flags = self.l_max
        most = max((l for flag, legs in zip(flags, COUPLED) if flag for l in legs), default=1 if any(flags) else 0)
        if len(flags) > len(COUPLED) or degrees < most or degrees > 8:
            raise AlgebraError(
                f"NEP with l_max = {self.l_max} was asked for",
                f"It is a degree up to 8 and at most {len(COUPLED)} flags for 222, 1111, 112, 123, 233, 134, with no degree above the first",
                "Give e.g. l_max=(4, 2, 0)",
            )
        if self.version not in (3, 4, 5) or self.neurons < 1:
            found = f"version = {self.version}, neurons = {self.neurons}"
            raise AlgebraError("NEP was asked for", found, "Give version 3, 4 or 5 and at least one neuron")
        if not all(len(e) == 3 and isinstance(e[0], str) and min(e[1:]) > 0 for e in self.elements):
            raise AlgebraError("NEP was asked for", f"elements = {self.elements}", 'Give symbols with two lengths in Å: (("Te", 8.0, 4.0),)')
        flags = [2 if f and not n else int(bool(f)) for n, f in enumerate(flags)]  # 1 and 2 mean the same
        while len(flags) > 2 and not flags[-1]:
            flags.pop()
        object.__setattr__(self, "l_max", (degrees, *flags, *[0] * (2 - len(flags))))
        object.__setattr__(self, "elements", tuple(sorted((s, float(a), float(b)) for s, a, b in self.elements)))

    # ---- sizes

    @property
    def radials(self) -> int:
        """Number of radial descriptors."""
        return self.n_max[0] + 1

    @property
    def angulars(self) -> int:
        """Number of angular channels n."""
        return self.n_max[1] + 1

    @property
    def radial_functions(self) -> int:
        """Number of Chebyshev functions of the radial part."""
        return self.basis[0] + 1

    @property
    def angular_functions(self) -> int:
        """Number of Chebyshev functions of the angular part."""
        return self.basis[1] + 1

    @property
    def blocks(self) -> int:
        """Angular descriptors for each channel."""
        return self.l_max[0] + sum(bool(f) for f in self.l_max[1:])

    @property
    def size(self) -> int:
        """Number of descriptors."""
        return self.radials + self.blocks * self.angulars

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        found = type(self)._declared()
        if not self.blocks:
            found = {n: p for n, p in found.items() if not n.startswith("angular")}
        return {n: replace(p, per="model") if self.version == 3 and p.per == "species" else p for n, p in found.items()}

    @classmethod
    def _declared(cls) -> dict[str, Param]:
        return {n: p for c in reversed(cls.__mro__) for n, p in vars(c).items() if isinstance(p, Param)}

    def table(self, name: str) -> BoundParam:
        """A parameter, chosen by species as the version asks for."""
        return BoundParam(self, self.params()[name])

    # ---- start values

    def _random(self, name: str, *shape: int) -> Any:
        import numpy as np

        return np.random.default_rng(sum(name.encode())).normal(size=shape)

    def start_radial(self) -> Any:
        """c of the radial part, [radials, radial_functions]."""
        return self._random("radial", self.radials, self.radial_functions) / math.sqrt(self.radial_functions)

    def start_angular(self) -> Any:
        """c of the angular part, [angulars, angular_functions]."""
        return self._random("angular", self.angulars, self.angular_functions) / math.sqrt(self.angular_functions)

    def start_radial_weights(self) -> Any:
        """[radials, neurons], variance 2/(size + neurons)."""
        return self._random("weights", self.radials, self.neurons) * math.sqrt(2 / (self.size + self.neurons))

    def start_angular_weights(self) -> Any:
        """[blocks, angulars, neurons], variance 2/(size + neurons)."""
        return self._random("more weights", self.blocks, self.angulars, self.neurons) * math.sqrt(2 / (self.size + self.neurons))

    def start_bias(self) -> Any:
        """[neurons]"""
        return 0.5 * self._random("bias", self.neurons)

    def start_output(self) -> Any:
        """[neurons], variance 2/(neurons + 1)."""
        return self._random("output", self.neurons) * math.sqrt(2 / (self.neurons + 1))

    # ---- the scalar of a site

    def site(self, env: Environment) -> Node:
        mu = Range("neuron", self.neurons)
        rest = tanh(-self.table("bias")[mu])
        return sum_over(mu, self.table("output")[mu] * (self.hidden(env, mu) - rest))

    def hidden(self, env: Environment, mu: Range) -> Node:
        """tanh of the hidden layer, by neuron."""
        n, scaled = self.radial_descriptors(env)
        z = sum_over(n, self.table("radial_weights")[n, mu] * scaled)
        if self.blocks:
            b, n, scaled = self.angular_descriptors(env)
            z = z + sum_over(b, n, self.table("angular_weights")[b, n, mu] * scaled)
        return tanh(z - self.table("bias")[mu])

    def radial_descriptors(self, env: Environment) -> tuple[Range, Node]:
        """s q of the radial part, by channel."""
        j = env.neighbors(self.reach(env, 0))
        n, k = Range("channel", self.radials), Range("basis", self.radial_functions)
        q = expanded(env, j, self.table("radial"), n, k, self.functions(env, j, 0), 1.0)
        return n, self.table("radial_scaler")[n] * q

    def angular_descriptors(self, env: Environment) -> tuple[Range, Range, Node]:
        """s q of the angular part, by block and channel."""
        j = env.neighbors(self.reach(env, 1))
        n, k, degrees = Range("channel", self.angulars), Range("basis", self.angular_functions), self.l_max[0]
        values = [y for row in harmonics(direction(j), degrees)[1:] for y in row]
        m = Range("component", len(values))
        moments = expanded(env, j, self.table("angular"), n, k, self.functions(env, j, 1), stack(m, values))
        a = [[element(moments, m, l * l - 1 + i) for i in range(2 * l + 1)] for l in range(1, degrees + 1)]
        squares = [(2 * l + 1) / (4 * math.pi) * total(x**2 for x in a[l - 1]) for l in range(1, degrees + 1)]
        more = [
            coupled(a, *legs) if legs else 7 / 15 * squares[0] ** 2
            for flag, legs in zip(self.l_max[1:], COUPLED)
            if flag
        ]
        b = Range("block", self.blocks)
        return b, n, self.table("angular_scaler")[b, n] * stack(b, [*squares, *more])

    def lengths(self, env: Environment, part: int) -> list[float]:
        """Cutoffs of the species (Å) for the radial (0) or angular (1) part."""
        known = {e[0]: e[1 + part] for e in self.elements}
        return [known.get(s, self.cutoff[part]) for s in env.symbols]

    def reach(self, env: Environment, part: int) -> float:
        """The largest cutoff (Å)."""
        return max(self.lengths(env, part))

    def functions(self, env: Environment, j: NeighborAtom, part: int) -> list[Node]:
        """(T_k(x) + 1)/2 fc for k = 0 .. basis."""
        each = self.lengths(env, part)
        rc = env.table("pair", lambda a, b: 0.5 * (each[a] + each[b]))[j]
        reduced = j.r / rc
        x = 2 * (reduced - 1) ** 2 - 1
        fall = 0.5 + 0.5 * cos(math.pi * reduced)
        if len(set(each)) > 1:
            fall = where_less(j.r, rc, fall, 0.0)
        values = [x * 0 + 1, x]
        while len(values) <= self.basis[part]:
            values.append(2 * x * values[-1] - values[-2])
        return [fall, *((0.5 * v + 0.5) * fall for v in values[1 : self.basis[part] + 1])]


def expanded(env: Environment, j: NeighborAtom, c: BoundParam, n: Range, k: Range, functions: Sequence[Node], factor: Any) -> Node:
    """sum_j sum_k c_nk f_k(r_ij) factor: for few species neighbours are summed first, and c is left outside that loop."""
    field = stack(k, functions)
    if len(env.symbols) > MANY:
        return sum_over(j, sum_over(k, c[j, n, k] * field) * factor)
    return total(sum_over(k, c[t, n, k] * sum_over(j, field * factor, species=t)) for t in env.species)


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
