"""Fixed charges in LAMMPS: the smooth part of their potential is left to `kspace_style`, all else stays in the library of the model.

What is left out is E = sum_i c_i phi_i, phi_i = sum_j q_j erf(r_ij/(sqrt2 sigma))/r_ij over all atoms and images but i itself, where q and c
depend on the species alone and c is a multiple of q: LAMMPS's Ewald sum of charges Q_i = q_i sqrt(2 c_i/(k q_i)) with g_ewald = 1/(sqrt2 sigma).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.codegen.program import is_global, neighbors_inside, walk
from composer.errors import AlgebraError
from composer.export.check import Engine, model_values
from composer.export.library import Values
from composer.export.shape import atoms_alone, values
from composer.ir.nodes import ONE, ZERO, Node, mul
from composer.ir.sums import rewrite
from composer.ir.vjp import vjp
from composer.model import Model
from composer.ops.bounds import MELT, SHARE
from composer.units import COULOMB_OF_ENGINES

RHO = 0.05  # 1/Å^3, the density that accuracies of charges refer to
UNITS = 1e-6  # relative: what constants of units and rounding leave in LAMMPS's own sums
EXACT = 1e-12  # relative, of charges that count as multiples of each other


@dataclass(frozen=True)
class Charged:
    """A model as the part that knows neighbours alone, and the rest, which is that of fixed charges (e, by species)."""

    near: Model
    rest: Model
    charges: tuple[float, ...]
    gewald: float  # 1/Å
    accuracy: float  # r.m.s. force error relative to the force of two unit charges at 1 Å, as LAMMPS counts it
    error: float  # allowed difference of the two sums, relative to the largest number of its kind

    def commands(self, style: str = "pppm") -> list[str]:
        """The lines of input, behind those of the pair style."""
        charges = [f"set type {n + 1} charge {q:.17g}" for n, q in enumerate(self.charges)]
        return [*charges, f"kspace_style {style} {self.accuracy:.2g}", f"kspace_modify gewald {self.gewald:.17g}"]

    def whole(self, engine: Engine) -> Engine:
        """The engine of the near part with the rest as the model itself sums it."""

        def together(structure: Any) -> Values:
            return _sum(engine(structure), model_values(self.rest, structure))

        return together


def sums(root: Node) -> list[Node]:
    """The sums over all atoms below a node, those that are read at neighbours included."""
    found = walk([root])
    return [n for n in found if is_global(n)] + [s for n in found if n.op == "near" for s in sums(n.args[0])]


def charged(model: Model) -> Charged | None:
    """The parts of a model with fixed charges; None when nothing in it is summed over all atoms.

    Errors: AlgebraError when what is summed over all atoms is more than the potential of one set of charges that depend on species alone.
    """
    found = list(dict.fromkeys(sums(model.node)))
    if not found:
        return None
    if len(found) > 1 or found[0].data[:2] != ("smooth", 1.0):
        raise _refusal(model, f"It sums over all atoms and images {', '.join(sorted({_said(n) for n in found}))}")
    (far,) = found
    slope = vjp([(model.node, ONE)], lambda n: n is far).get(far, ZERO)
    if not all(_of_species(n) for n in (slope, far.args[0])):
        raise _refusal(model, "Its charges, or what they are multiplied with, depend on the surroundings")
    charges = _charges(model, *(_by_species(model, n) for n in (far.args[0], slope)))
    sigma, accuracy = far.data[2:4]
    near = model.part(rewrite(model.node, lambda n: ZERO if n is far else None))
    scale = float(np.mean(np.square(charges))) * MELT * RHO ** (2 / 3) * SHARE
    return Charged(near, model.part(mul(slope, far)), charges, 1 / (math.sqrt(2) * sigma), accuracy * scale, max(10 * accuracy, UNITS))


def _charges(model: Model, q: np.ndarray, c: np.ndarray) -> tuple[float, ...]:
    """The charges whose energy in LAMMPS is that of the potential of q weighed with c [species]."""
    ratio = float((q @ c) / (q @ q)) if q.any() else 0.0
    if not ratio > 0 or np.abs(c - ratio * q).max() > EXACT * np.abs(c).max():
        raise _refusal(model, "The energy is no positive multiple of that of its charges in their own potential")
    return tuple((q * math.sqrt(2 * ratio / COULOMB_OF_ENGINES)).tolist())


def _of_species(node: Node) -> bool:
    return not (sums(node) or neighbors_inside(node))


def _by_species(model: Model, node: Node) -> np.ndarray:
    return values(model, node, atoms_alone(model, list(range(len(model.species)))))


def _said(node: Node) -> str:
    power = node.data[1:2]
    return f"r^-{power[0]:g} with the width {node.data[2]:g} Å" if node.data[0] == "smooth" else f"the {node.data[0]} of its charges"


def _refusal(model: Model, found: str) -> AlgebraError:
    return AlgebraError(
        f"An export of {model.expression} to LAMMPS was asked for, whose kspace_style sums one set of fixed charges",
        found,
        'Write Coulomb(Charges({"Na": 1, "Cl": -1})) with the numbers of your charges and fit the rest again, or export to torchsim, openmm or ipi',
    )


def _sum(a: Values, b: Values) -> Values:
    both = (None if x is None or y is None else x + y for x, y in ((a.virial, b.virial), (a.energies, b.energies)))
    return Values(a.energy + b.energy, a.forces + b.forces, *both)


__all__ = ["Charged", "charged", "sums"]
