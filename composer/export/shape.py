"""What form an energy has, read from its definition: a sum over pairs, or a function of one density; and the numbers of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from composer.codegen import program as programs
from composer.codegen.program import neighbors_inside, walk
from composer.errors import AlgebraError
from composer.ir.indices import Neighbor
from composer.ir.nodes import Node, add, site_input
from composer.ir.sums import bound_of, rebuild
from composer.model import Model
from composer.model.structures import whole
from composer.neighbors import Batch, build_batch
from composer.runtime.kernel import Kernel

DENSITY = "density"
APART = 3.0  # cutoffs between the dimers that are evaluated together


def order(node: Node) -> int:
    """0 without neighbours, 1 for a sum over neighbours of functions of their distance (times what has none), 2 for anything else."""
    return _order(node, {})


def _order(node: Node, memo: dict[Node, int]) -> int:
    if node not in memo:
        memo[node] = _order_here(node, memo)
    return memo[node]


def _order_here(node: Node, memo: dict[Node, int]) -> int:
    if node.op == "near":
        return 2
    if _over_neighbors(node):
        return 1 if _radial(node.args[0]) else 2
    inner = [_order(a, memo) for a in node.args]
    if node.op in ("add", "sum", "at", "stack"):
        return max(inner, default=0)
    if node.op == "mul" and min(inner) == 0:
        return max(inner)
    return 2 if any(inner) else 0


def _over_neighbors(node: Node) -> bool:
    return node.op == "sum" and any(isinstance(i, Neighbor) for i in bound_of(node))


def _radial(body: Node) -> bool:
    """Whether displacements enter through the distance alone, with nothing else of neighbours inside."""
    pending, seen = [body], set()
    while pending:
        node = pending.pop()
        if node in seen or is_distance(node):
            continue
        seen.add(node)
        if node.op in ("d", "near") or _over_neighbors(node):
            return False
        pending.extend(node.args)
    return True


def is_distance(node: Node) -> bool:
    """Whether a node is the distance of a neighbour, or its square written with components."""
    squares = [a for a in node.args if a.op == "pow" and a.data == (2,) and a.args[0].op == "d"]
    return node.op == "norm" or (node.op == "add" and len(squares) == len(node.args) == 3)


@dataclass(frozen=True)
class Shape:
    """A model's energy as `pairs` (order 1, with E0) and `rest`, a function of the density `density`; the last two may be None."""

    model: Model
    pairs: Node
    rest: Node | None = None
    density: Node | None = None

    def pair_energy(self, a: int, b: int, r: np.ndarray) -> np.ndarray:
        """Energy (eV) of two atoms of species a and b at distances r (Å), without E0 and without the rest."""
        batch = dimers(self.model, a, b, r)
        found = values(self.model, self.pairs, batch).reshape(-1, 2)
        return found.sum(1) - values(self.model, self.pairs, atoms_alone(self.model, [a, b])).sum()

    def density_from(self, a: int, b: int, r: np.ndarray) -> np.ndarray:
        """Density at an atom of species a from one of species b at distances r (Å)."""
        assert self.density is not None
        found = values(self.model, self.density, dimers(self.model, a, b, r)).reshape(-1, 2)[:, 0]
        return found - self.alone(a)

    def alone(self, a: int) -> float:
        """Density at an atom without neighbours."""
        assert self.density is not None
        return float(values(self.model, self.density, atoms_alone(self.model, [a]))[0])

    def embedding(self, a: int, rho: np.ndarray) -> np.ndarray:
        """Energy (eV) of an atom of species a in the density rho, E0 included."""
        assert self.rest is not None and self.density is not None
        place = _put(self.rest, self.density, site_input(DENSITY))
        batch = atoms_alone(self.model, [a] * len(rho))
        return values(self.model, add(place, self.pairs), batch, {DENSITY: torch.from_numpy(rho + self.alone(a))})

    def densities(self, structures: list) -> np.ndarray:
        """Densities at all atoms of structures."""
        assert self.density is not None
        batch = whole(self.model.prepare(structures))
        return values(self.model, self.density, batch)

    @cached_property
    def ordered(self) -> bool:
        """Whether the density depends on the species of the atom it acts on, not only on that of the neighbour."""
        r = np.linspace(0.5, 1.0, 7)[:-1] * self.model.cutoff
        count = range(len(self.model.species))
        return any(np.abs(self.density_from(a, b, r) - self.density_from(0, b, r)).max() > 1e-14 for a in count for b in count)


def pair_shape(model: Model) -> Shape:
    """The model as a sum over pairs. Errors: AlgebraError when it is not one."""
    if order(model.node) == 1:
        return Shape(model, model.node)
    raise AlgebraError(
        "A table or formula of a pair potential was asked for",
        f"{model.expression} is no sum over pairs of functions of their distance",
        'Export to "lammps", which takes any expression',
    )


def density_shape(model: Model) -> Shape:
    """The model as pairs and a function of one density. Errors: AlgebraError when it is of another form."""
    parts = model.node.args if model.node.op == "add" else (model.node,)
    plain = [p for p in parts if order(p) <= 1]
    rest = add(*(p for p in parts if order(p) > 1))
    density = _density(rest) if len(plain) < len(parts) else None
    if density is None:
        raise AlgebraError(
            "Tables of embedded atoms were asked for",
            f"{model.expression} is no sum over pairs plus a function of one density",
            'Export to "lammps", which takes any expression, or to "table" for pairs alone',
        )
    return Shape(model, add(*plain), rest, density)


def _density(rest: Node) -> Node | None:
    """The node of order 1 through which alone neighbours enter."""
    candidates = [n for n in walk([rest]) if order(n) == 1 and not n.free]
    found = [n for n in candidates if not neighbors_inside(_put(rest, n, site_input(DENSITY)))]
    return max(found, key=lambda n: len(walk([n])), default=None)


def _put(root: Node, old: Node, new: Node) -> Node:
    """The expression with one node replaced."""
    memo: dict[Node, Node] = {old: new}

    def put(node: Node) -> Node:
        if node not in memo:
            memo[node] = node if node.op == "near" else rebuild(node, [put(a) for a in node.args])
        return memo[node]

    return put(root)


def dimers(model: Model, a: int, b: int, r: np.ndarray) -> Batch:
    """Pairs of atoms at distances r, far from each other, in one structure."""
    step = APART * model.cutoff
    x = np.zeros((2 * len(r), 3))
    x[:, 0] = np.repeat(np.arange(len(r)) * step, 2)
    x[1::2, 1] = r
    kinds = np.tile(np.array([a, b], dtype=np.int32), len(r))
    return build_batch([(kinds, x, np.zeros((3, 3)), np.zeros(3, dtype=bool))], model.cutoff)


def atoms_alone(model: Model, kinds: list[int]) -> Batch:
    """Atoms without neighbours, in one structure."""
    x = np.zeros((len(kinds), 3))
    x[:, 0] = np.arange(len(kinds)) * APART * model.cutoff
    return build_batch([(np.array(kinds, dtype=np.int32), x, np.zeros((3, 3)), np.zeros(3, dtype=bool))], model.cutoff)


def values(model: Model, node: Node, batch: Batch, inputs: dict[str, torch.Tensor] | None = None) -> np.ndarray:
    """A site scalar of the model at all atoms [N]."""
    kernel = Kernel("part", programs.energies(node), model.layout)
    return kernel(batch, model.flat, inputs=inputs).site["e"][: batch.atoms].numpy()


__all__ = ["Shape", "density_shape", "is_distance", "order", "pair_shape"]
