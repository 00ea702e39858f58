"""The neuroevolution potential: Chebyshev and angular descriptors of a site, and a small network on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from composer.algebra import Term
from composer.quantities import BoundParam, Environment, Node, Param, Range, stack, sum_over, tanh, total
from terms.nep_channels import Channels
from terms.nep_descriptors import angular_descriptors, flat_directions, radial_descriptors

Pairwise = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NEP(Channels, Term):
    """E_i = sum_mu w_mu (tanh(sum_nu W_mu,nu s_nu q_nu - b_mu) - tanh(-b_mu)): zero for an isolated atom (E0 holds the constant).

    q: sum_j g_n(r_ij), n = 0 .. n_max[0]; then on g_n of the second table |A_nl|^2 for l = 1 .. l_max[0] with A_nlm = sum_j g_n Y_lm, and the
    invariants of three A that the flags l_max[1:] choose: 222, 1111 (= 7/15 q_n1^2), 112, 123, 233, 134. g_n = sum_k c_nk (T_k(x) + 1)/2 fc,
    k = 0 .. basis, x = 2 (r/rc - 1)^2 - 1, fc = (1 + cos(pi r/rc))/2. cutoff (Å): radial, angular; `elements` gives others for
    single elements, (("Te", 8.0, 4.0), ...), and a pair has the mean of both. radial and angular c per ordered pair, without unit;
    weights W, bias b and output w (eV) per species, for all species together in version 3; scaler s is not fitted. With `charges` a
    second output v (e) per species gives Q_i = sum_mu v_mu tanh(...) to charge models; it is no part of the energy. With `extra` the
    features phi_tp of an ExteriorPotential enter the network beside q, weights per ordered pair (site, t).
    Source: Z. Fan et al., Phys. Rev. B 104, 104309 (2021); J. Chem. Phys. 157, 114801 (2022).
    """

    smoothness: ClassVar[int] = 1
    cutoff: tuple[float, float] = (8.0, 4.0)
    n_max: tuple[int, int] = (4, 4)
    basis: tuple[int, int] = (8, 8)
    l_max: tuple[int, ...] = (4, 2, 0)
    neurons: int = 30
    version: int = 4
    elements: Pairwise = field(default=(), metadata={"quiet": True})
    extra: Term | None = field(default=None, metadata={"quiet": True})
    charges: bool = field(default=False, metadata={"quiet": True})
    radial = Param(per="ordered pair", shape=("radials", "radial_functions"), start="start_radial")
    angular = Param(per="ordered pair", shape=("angulars", "angular_functions"), start="start_angular")
    radial_weights = Param(per="species", shape=("radials", "neurons"), start="start_radial_weights")
    angular_weights = Param(per="species", shape=("blocks", "angulars", "neurons"), start="start_angular_weights")
    extra_weights = Param(per="ordered pair", shape=("extras", "neurons"), start="start_extra_weights")
    bias = Param(per="species", shape=("neurons",), start="start_bias")
    charge = Param(unit="e", per="species", shape=("neurons",), start="start_output")
    output = Param(unit="eV", per="species", shape=("neurons",), amplitude=True, start="start_output")
    radial_scaler = Param(1.0, shape=("radials",), fitted=False)
    angular_scaler = Param(1.0, shape=("blocks", "angulars"), fitted=False)
    extra_scaler = Param(1.0, shape=("extras",), fitted=False)

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        found = {n: p for n, p in type(self)._declared().items() if n != "charge" or self.charges}
        absent = ("angular",) * (not self.blocks) + ("extra",) * (not self.extra)
        found = {n: p for n, p in found.items() if not n.startswith(absent)}
        return {n: replace(p, per="model") if self.version == 3 and p.per == "species" else p for n, p in found.items()}

    @classmethod
    def _declared(cls) -> dict[str, Param]:
        return {n: p for c in reversed(cls.__mro__) for n, p in vars(c).items() if isinstance(p, Param)}

    def table(self, name: str) -> BoundParam:
        """A parameter, chosen by species as the version asks for."""
        return BoundParam(self, self.params()[name])

    def site(self, env: Environment) -> Node:
        mu = Range("neuron", self.neurons)
        rest = tanh(-self.table("bias")[mu])
        return sum_over(mu, self.table("output")[mu] * (self.hidden(env, mu) - rest))

    def charge_of_site(self, env: Environment) -> Node:
        """Q_i (e) before the structure is made neutral."""
        mu = Range("neuron", self.neurons)
        return sum_over(mu, self.table("charge")[mu] * self.hidden(env, mu))

    def hidden(self, env: Environment, mu: Range) -> Node:
        """tanh of the hidden layer, by neuron."""
        n, q = radial_descriptors(self, env)
        z = sum_over(n, self.table("radial_weights")[n, mu] * (self.table("radial_scaler")[n] * q))
        if self.blocks:
            b, n, q = angular_descriptors(self, env)
            z = z + sum_over(b, n, self.table("angular_weights")[b, n, mu] * (self.table("angular_scaler")[b, n] * q))
        if self.extra is not None:
            z = z + total(self.table("extra_weights")[t, n, mu] * (self.table("extra_scaler")[n] * q) for t, n, q in self.far(env))
        return tanh(z - self.table("bias")[mu])

    def inputs(self, env: Environment) -> dict[str, tuple[tuple[Range, ...], Node]]:
        """What each scaler multiplies: its ranges and the descriptors on them."""
        n, q = radial_descriptors(self, env)
        found: dict[str, tuple[tuple[Range, ...], Node]] = {"radial_scaler": ((n,), q)}
        if self.blocks:
            b, n, q = angular_descriptors(self, env)
            found["angular_scaler"] = (b, n), q
        if self.extra is not None:
            n = Range("exponent", self.extras)
            found["extra_scaler"] = (n,), stack(n, [total(q for _, m, q in self.far(env) if m == e) for e in range(self.extras)])
        return found

    def flat_directions(self, tables: dict[str, Any]) -> list[dict[str, Any]]:
        """Changes of the tables that leave the energy as it is."""
        return flat_directions(self, tables)
