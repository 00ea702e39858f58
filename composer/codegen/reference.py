"""The oracle: author-level nodes evaluated in torch float64 on padded neighbours, differentiated by torch.autograd alone.

Nothing here is shared with the compiler: no vjp, jvp or pass, and neighbours come from a loop over images. Every value has one axis for
each of: site N, neighbour j (M), neighbour k (M), species of j, species of k, then the static ranges; axes that it lacks have length 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from composer.codegen.padded import F64, Padded, Structures
from composer.errors import BackendError
from composer.ir.indices import Index, Neighbor, Range, Species, parse_index
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, given_of, relation_of
from composer.quantities import PER, row, rows

AXES = {"site": 0, "j": 1, "k": 2, "species j": 3, "species k": 4}
FUNCTIONS = {"exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh}
FUNCTIONS |= {"expm1": torch.expm1, "log1p": torch.log1p}
Tables = Mapping[str, Tensor]


class Evaluation(NamedTuple):
    """Site energies [N], eV; forces [N, 3], eV/Å; stress [S, 3, 3], eV/Å^3, NaN where not periodic; virial -dE/dstrain [S, 3, 3], eV."""

    energies: Tensor
    forces: Tensor
    stress: Tensor
    virial: Tensor


def evaluate(node: Node, batch: Structures, species_count: int, tables: Tables, inputs: Tables | None = None) -> Evaluation:
    """Site energies and, by automatic differentiation, forces F = -dE/dx and stress = dE/dstrain / V (positive under tension).

    Arguments: node, a scalar of the site; batch; number of species of the model; tables, parameter name -> [rows, *shape] (rows as
    `composer.quantities.row` numbers them); inputs, name of a site input -> [N].
    """
    positions = batch.positions.detach().to(F64).clone().requires_grad_()
    strain = torch.zeros(len(batch.cells), 3, 3, dtype=F64, requires_grad=True)
    energies = site_values(node, batch, species_count, tables, inputs, positions, strain)
    zero = 0.0 * (positions.sum() + strain.sum())  # a constant energy has forces too
    slope = torch.autograd.grad(energies.sum() + zero, [positions, strain])
    volume = torch.linalg.det(batch.cells.to(F64)).abs()
    volume = torch.where(batch.pbc.bool().all(dim=1) & (volume > 0), volume, math.nan)
    return Evaluation(energies.detach(), -slope[0], slope[1] / volume[:, None, None], -slope[1])


def energy(node: Node, batch: Structures, species_count: int, tables: Tables, inputs: Tables | None = None) -> Tensor:
    """Energy of each structure [S], eV; differentiable with respect to tables and inputs. Arguments: as `evaluate`."""
    values = site_values(node, batch, species_count, tables, inputs)
    return torch.stack([values[a:b].sum() for a, b in itertools.pairwise(batch.offsets.tolist())])


def site_values(
    node: Node,
    batch: Structures,
    species_count: int,
    tables: Tables,
    inputs: Tables | None = None,
    positions: Tensor | None = None,
    strain: Tensor | None = None,
) -> Tensor:
    """The scalar of every site [N].

    Arguments: as `evaluate`; positions [N, 3] (those of the batch by default) and strain [S, 3, 3] (zero by default) may be leaves.
    Errors: BackendError if the node is not a scalar of the site, or was already transformed.
    """
    if node.free:
        raise BackendError(
            "The value of a node at every site was asked for",
            f"It depends on {', '.join(sorted(i.key for i in node.free))}",
            "Sum over these indices first",
        )
    found = Padded(batch, max((i.cutoff for i in _indices(node) if isinstance(i, Neighbor)), default=1.0))
    x = batch.positions.to(F64) if positions is None else positions
    d = found.displacements(batch, x, strain)  # [N, M, 3]
    return _Program(node, found, d, batch.species.long(), species_count, tables, inputs or {}).run()


Item = tuple[Node, frozenset[str]]  # a node and the slots whose species is that of the neighbour of a surrounding loop


class _Program:
    def __init__(self, root: Node, found: Padded, d: Tensor, species: Tensor, count: int, tables: Tables, inputs: Tables) -> None:
        self.root, self.found, self.d, self.species, self.count, self.tables, self.inputs = root, found, d, species, count, tables, inputs
        keys = dict.fromkeys(i.key for i in _indices(root) if isinstance(i, Range))
        self.axes = {key: len(AXES) + n for n, key in enumerate(sorted(keys))}
        self.rank = len(AXES) + len(self.axes)
        self.values: dict[Item, Tensor] = {}

    def run(self) -> Tensor:
        """The value of the root [N]; arguments first, without recursion."""
        first = self.item(self.root, frozenset())
        todo = [first]
        while todo:
            item = todo[-1]
            missing = [a for a in self.arguments(*item) if a not in self.values]
            if missing and item not in self.values:
                todo += missing
                continue
            todo.pop()
            if item not in self.values:
                self.values[item] = self.compute(item[0], item[1], [self.values[a] for a in self.arguments(*item)])
        return self.values[first].expand(len(self.species), *[1] * (self.rank - 1)).reshape(-1)

    def item(self, node: Node, looped: frozenset[str]) -> Item:
        return node, looped & {i.slot for i in node.free if isinstance(i, Species)}

    def arguments(self, node: Node, looped: frozenset[str]) -> list[Item]:
        if node.op == "sum":
            looped = looped | {i.slot for i in bound_of(node) if isinstance(i, Neighbor)}
        elif node.op == "at":
            looped = looped - {getattr(parse_index(node.data[0]), "slot", "")}
        elif node.op == "near":
            looped = frozenset()
        return [self.item(a, looped) for a in node.args]

    def compute(self, node: Node, looped: frozenset[str], args: list[Tensor]) -> Tensor:
        match node.op:
            case "const":
                return self.lay(torch.tensor(node.data[0], dtype=F64))
            case "d":
                return self.displacement(node.data[1], _neighbor(node.data[2]))
            case "param":
                name, kinds, idx = node.data
                return self.parameter(name, kinds, idx, looped)
            case "mark":
                return self.lay(torch.ones((), dtype=F64))
            case "site":
                return self.lay(self.inputs[node.data[0]].to(F64), 0)
            case "near":
                values = args[0].reshape(-1).expand(len(self.species))[self.found.owner]
                return self.lay(values, 0, AXES[_neighbor(node.data[0]).slot])
            case "norm":
                square = args[0] ** 2 + args[1] ** 2 + args[2] ** 2
                return torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)  # slope 0 at zero distance
            case "add":
                return sum(args[1:], args[0])
            case "mul":
                return args[0] * args[1]
            case "pow":
                return args[0] ** node.data[0]
            case "where":
                return torch.where(args[0] < args[1], args[2], args[3])
            case "sum":
                return self.sum(node, args[0])
            case "stack":
                return self.stack(parse_index(node.data[0]), args, looped)
            case "at":
                return args[0].narrow(self.axis(parse_index(node.data[0])), node.data[1], 1)
            case op if op in FUNCTIONS:
                return FUNCTIONS[op](args[0])
        raise BackendError(
            "A node was to be evaluated by the reference", f"It is a {node.op!r}, made by a transform", "Give the node that a term states"
        )

    def lay(self, values: Tensor, *axes: int) -> Tensor:
        """The tensor with its axes in place (ascending) and length 1 elsewhere."""
        shape = [1] * self.rank
        for axis, size in zip(axes, values.shape, strict=True):
            shape[axis] = size
        return values.reshape(shape)

    def axis(self, index: Index) -> int:
        return self.axes[index.key] if isinstance(index, Range) else AXES[f"species {index.slot}"]  # type: ignore[union-attr]

    def inside(self, index: Neighbor) -> Tensor:
        """Which entries of the padded list are neighbours within the cutoff of the index [N, M]."""
        return self.found.real & ((self.d**2).sum(-1) < index.cutoff**2)

    def displacement(self, axis: int, index: Neighbor) -> Tensor:
        """Components x_j - x_i; what is no neighbour within the cutoff (for k: nor another one than j) stands harmlessly at 0.9 cutoff."""
        width = self.d.shape[1]
        fill = 0.9 * index.cutoff * _directions(2 * width)[index.slot == "k" :: 2, axis]  # [M], never along one another
        values = torch.where(self.inside(index), self.d[..., axis], fill)
        if index.slot == "j":
            return self.lay(values, 0, 1)
        same = torch.eye(width, dtype=torch.bool)
        return self.lay(torch.where(same, fill, values[:, None, :]), 0, 1, 2)

    def sum(self, node: Node, body: Tensor) -> Tensor:
        bound, relation = bound_of(node), relation_of(node)
        looped = [i for i in bound if isinstance(i, Neighbor)]
        if not relation and any(i.slot == "k" for i in looped):
            raise BackendError("A sum over a second neighbour was asked for", "It is not tied to the first one", 'Use "ne", "lt" or "gt"')
        keep = self.lay(torch.ones((), dtype=torch.bool))
        for index in looped:
            keep = keep & self.lay(self.inside(index), 0, AXES[index.slot])
            kind = next((i for i in node.free if isinstance(i, Species) and i.slot == index.slot), None)
            if kind is not None:  # the sum stays resolved by the species of the neighbour
                keep = keep & (self.neighbor_species(index.slot) == self.lay(torch.arange(self.count), self.axis(kind)))
        if relation and (len(looped) == 2 or given_of(node) is not None):
            keep = keep & self.related(relation)
        ranged = [i for i in bound if isinstance(i, Range)]
        shape = [-1] * self.rank
        for index in ranged:
            shape[self.axis(index)] = index.size
        body = torch.where(keep, body.expand(shape), 0.0)
        axes = [AXES[i.slot] for i in looped] + [self.axis(i) for i in ranged]
        return body.sum(dim=axes, keepdim=True) if axes else body

    def related(self, relation: str) -> Tensor:
        place = torch.arange(self.d.shape[1])
        j, k = place[:, None], place[None, :]
        return self.lay({"ne": j != k, "lt": k < j, "gt": k > j}[relation], 1, 2)

    def neighbor_species(self, slot: str) -> Tensor:
        return self.lay(self.species[self.found.owner], 0, AXES[slot])

    def stack(self, index: Index, args: list[Tensor], looped: frozenset[str]) -> Tensor:
        axis, shape = self.axis(index), torch.broadcast_shapes(*(a.shape for a in args))
        values = torch.cat([a.expand(shape) for a in args], dim=axis)
        if not (isinstance(index, Species) and index.slot in looped):
            return values
        chosen = self.neighbor_species(index.slot) == self.lay(torch.arange(self.count), axis)
        return torch.where(chosen, values, 0.0).sum(dim=axis, keepdim=True)

    def parameter(self, name: str, kinds: tuple, idx: tuple, looped: frozenset[str]) -> Tensor:
        table = self.tables[name]
        places = [self.kind(k, looped) for k in kinds]
        chosen = _row_numbers(len(kinds), len(table), self.count)[tuple(places)] if kinds else self.lay(torch.zeros((), dtype=torch.long))
        ranges = [self.lay(torch.arange(i.size), self.axis(i)) if isinstance(i, Range) else self.lay(torch.tensor(i)) for i in idx]
        return table.to(F64)[tuple(torch.broadcast_tensors(chosen, *ranges))]

    def kind(self, kind: str | int | Species, looped: frozenset[str]) -> Tensor:
        if kind == "i":
            return self.lay(self.species, 0)
        if isinstance(kind, Species):
            return self.neighbor_species(kind.slot) if kind.slot in looped else self.lay(torch.arange(self.count), self.axis(kind))
        return self.lay(torch.tensor(kind))


def _row_numbers(atoms: int, found: int, count: int) -> Tensor:
    """Row of a table for the species of `atoms` atoms, [S] * atoms; the number of rows says whether pairs are ordered."""
    per = next((p for p, n in PER.items() if n == atoms and rows(p, count) == found), None)
    if per is None:
        raise BackendError(
            f"A parameter chosen by {atoms} species out of {count} was asked for",
            f"Its table has {found} rows",
            "Make tables with composer.quantities.rows",
        )
    numbers = [row(per, count, *kinds) for kinds in itertools.product(range(count), repeat=atoms)]
    return torch.tensor(numbers).reshape([count] * atoms)


def _directions(count: int) -> Tensor:
    """Unit vectors on a spiral, [count, 3]: no two are parallel, none is an axis."""
    n = torch.arange(count, dtype=F64)
    z = 0.9 * (2 * n + 1) / count - 0.87
    angle = 2.39996 * n + 0.3
    ring = (1 - z**2).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=1)


def _neighbor(key: str) -> Neighbor:
    index = parse_index(key)
    assert isinstance(index, Neighbor)
    return index


def _indices(root: Node) -> set[Index]:
    """Every index that occurs below a node."""
    seen: set[Node] = set()
    found: set[Index] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        found |= node.free
        found |= bound_of(node) if node.op == "sum" else {parse_index(node.data[0])} if node.op in ("stack", "at") else set()
        todo += node.args
    return found
