"""Programs: what to compute from a site energy, cut into stages where a site field is read at a neighbour.

    forces     e_i and F = -dE/dx                                     vjp(E)
    gradient   d/dtheta of sum_i seed_i e_i + seed_t w . dE/dx        vjp(jvp(E))
    tangent    e_t, and -d/dx of sum_i seed_i e_i + e_t               vjp of jvp(E): tangents of energies and forces along (w, theta_t)

Nothing here knows a term or a back end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from composer.codegen.outputs import Output, Table
from composer.ir.indices import neighbors, parse_index
from composer.ir.jvp import Tangent
from composer.ir.nodes import ONE, ZERO, Node, add, coefficient, displacement, mul, operate, parameter, site_input
from composer.ir.sums import rewrite
from composer.ir.vjp import vjp


@dataclass(frozen=True)
class Global:
    """A global operation between stages: `target` = A `source`, or without a target `factor` times the slopes of the form `source` A `other`.

    `tangent` stands for the derivative along the moves of sites and cells; names are those of site arrays.
    """

    operator: tuple
    source: str
    target: str = ""
    other: str = ""
    tangent: bool = False
    factor: float = 1.0


@dataclass
class Program:
    """Outputs by stage. `fields` are site arrays that a later stage reads at neighbours, `adjoints` are collected from neighbours.

    `globals` are done after a stage, `pulls` at the end.
    """

    stages: list[list[Output | Table]]
    fields: dict[int, list[str]] = field(default_factory=dict)
    adjoints: dict[int, list[str]] = field(default_factory=dict)
    globals: dict[int, list[Global]] = field(default_factory=dict)
    pulls: list[Global] = field(default_factory=list)

    def site_arrays(self) -> list[str]:
        """Names of all site arrays, in a fixed order."""
        names = {n: None for g in (*self.pulls, *(g for s in self.globals.values() for g in s)) for n in (g.source, g.target, g.other) if n}
        for stage in self.stages:
            for output in stage:
                if isinstance(output, Table):
                    for node in walk([*output.weights, *(n for parts in output.rows for n in parts)]):
                        if node.op == "site":
                            names.setdefault(node.data[0])
                    continue
                if output.kind in ("site", "near"):
                    names.setdefault(output.name)
                for node in walk([output.node]):
                    if node.op == "site":
                        names.setdefault(node.data[0])
                    elif node.op == "near":
                        names.setdefault(field_name(node.args[0]))
        return list(names)


def field_name(node: Node) -> str:
    """Name of the site array that holds a field read at neighbours."""
    return f"field {node.key.hex()}"


def global_name(node: Node) -> str:
    """Name of the site array that holds what a global operation gives."""
    return f"global {node.key.hex()}"


def is_global(node: Node) -> bool:
    return node.op in ("global", "global_t")


def walk(roots: list[Node]) -> list[Node]:
    """All nodes below the roots, without looking into fields of neighbours."""
    seen: dict[Node, None] = {}
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node not in seen:
            seen[node] = None
            if node.op != "near":
                pending.extend(node.args)
    return list(seen)


def forces(energy: Node, seeded: bool = False) -> Program:
    """Site energies and forces of sum_i s_i e_i; all s_i = 1 unless `seeded`."""
    return _Builder([("e", energy)], [(energy, site_input("seed") if seeded else ONE)], positions=True).program()


def with_second(energy: Node, other: Node) -> Program:
    """Site values e_i and q_i of two scalars, and the forces of sum_i (e_i + s_i q_i) for given weights s of the sites."""
    return _Builder([("e", energy), ("q", other)], [(energy, ONE), (other, site_input("seed"))], positions=True).program()


def values(named: Mapping[str, Node]) -> Program:
    """Site scalars by name, without derivatives."""
    return _Builder(list(named.items()), [], positions=False).program()


def energies(energy: Node) -> Program:
    """Site energies alone."""
    return _Builder([("e", energy)], [], positions=False).program()


def gradient(energy: Node) -> Program:
    """Gradient by the parameters of sum_i seed_i e_i + seed_t w . dE/dx."""
    moved = Tangent(_position_tangent)(energy)
    return _Builder([], [(energy, site_input("seed")), (moved, site_input("seed_t"))], positions=False, parameters=True).program()


def parameters(energy: Node) -> Program:
    """Gradient by the parameters of sum_i seed_i e_i."""
    return _Builder([], [(energy, site_input("seed"))], positions=False, parameters=True).program()


def tangent(energy: Node) -> Program:
    """Tangents of site energies and forces along a displacement w of the sites and a change of the parameters.

    The forces of sum_i seed_i e_i are added (none by default): with w and no change of parameters this is the gradient by positions of
    the same sum that `gradient` differentiates by parameters.
    """
    moved = Tangent(_full_tangent)(energy)
    return _Builder([("e_t", moved)], [(energy, site_input("seed")), (moved, ONE)], positions=True).program()


def is_learnable(node: Node) -> bool:
    """Whether a node is a parameter and not a table of known numbers."""
    return node.op == "param" and not node.data[0].startswith("fixed.")


def _position_tangent(leaf: Node) -> Node:
    return displacement(leaf.data[1], next(iter(leaf.free)), "d_t") if leaf.op == "d" else ZERO  # type: ignore[arg-type]


def _full_tangent(leaf: Node) -> Node:
    if is_learnable(leaf):
        return parameter(*leaf.data, tangent=True)
    return _position_tangent(leaf)


class _Builder:
    """Collects outputs and places them in stages."""

    def __init__(self, values: list[tuple[str, Node]], seeds: list[tuple[Node, Node]], positions: bool, parameters: bool = False) -> None:
        self.available: dict[str, int] = {}  # adjoint array -> stage at which it is complete
        self.memo: dict[Node, int] = {}
        self.outputs: list[Output] = [Output("site", node, name) for name, node in values]
        self.positions, self.parameters = positions, parameters
        self.received: dict[Node, list[Node]] = {}  # global operation -> parts of its adjoint
        self.pulls: list[Global] = []
        self.fields = self._fields([n for _, n in values] + [n for n, _ in seeds])
        self.outputs += [Output("site", f, field_name(f)) for f in self.fields]
        self._sweep(seeds)
        for level in sorted({self.stage(f) for f in self.fields}, reverse=True):
            self._sweep([(f, a) for f in self.fields if self.stage(f) == level and (a := self._adjoint(f)) is not ZERO])

    def _fields(self, roots: list[Node]) -> list[Node]:
        found: dict[Node, None] = {}
        pending = list(roots)
        while pending:
            inner = [n.args[0] for n in walk([pending.pop()]) if n.op == "near" or is_global(n)]
            pending += [n for n in inner if n not in found]
            found.update(dict.fromkeys(inner))
        return sorted(found, key=self.stage)

    def _sweep(self, seeds: list[tuple[Node, Node]]) -> None:
        if not seeds:
            return
        follows = self._follows_fields()
        kinds = {"d": self.positions, "near": follows, "global": follows, "global_t": follows}
        found = vjp(seeds, lambda n: kinds.get(n.op, False) or (self.parameters and is_learnable(n)))
        for leaf, adjoint in sorted(found.items(), key=lambda item: item[0].key):
            if leaf.op == "d":
                self.outputs.append(Output("force", adjoint, axis=leaf.data[1]))
            elif leaf.op == "param":
                self.outputs.append(Output("parameter", adjoint, target=leaf))
            elif is_global(leaf):
                self.received.setdefault(leaf, []).append(adjoint)
            else:
                name = f"adjoint {field_name(leaf.args[0])}"
                self.outputs.append(Output("near", adjoint, name))
                self.available[name] = max(self.available.get(name, 0), self.stage(adjoint) + 1)

    def _adjoint(self, field: Node) -> Node:
        """What the field has received from neighbours and, through symmetric maps, from global operations."""
        name = f"adjoint {field_name(field)}"
        parts = [site_input(name)] if name in self.available else []
        for node in sorted((n for n in self.received if n.args[0] is field), key=lambda n: n.key):
            total = add(*self.received.pop(node))
            if total is ZERO:
                continue
            if self.positions:
                self._pull(node, total)
            parts.append(operate(node.data, total, node.op == "global_t"))
        return add(*parts)

    def _pull(self, node: Node, adjoint: Node) -> None:
        """Slopes of adjoint A field by positions and cells."""
        names = []
        factor, base = coefficient(adjoint)
        if base is not node.args[0]:
            factor, base = 1.0, adjoint
        for source in (base, node.args[0]):
            names.append(field_name(source))
            if names[-1] not in {o.name for o in self.outputs}:
                self.outputs.append(Output("site", source, names[-1]))
        self.pulls.append(Global(node.data, names[0], "", names[1], node.op == "global_t", factor))

    def _follows_fields(self) -> bool:
        return bool(self.fields) and (self.positions or self.parameters)

    def stage(self, node: Node) -> int:
        """First stage in which a node can be computed."""
        found = self.memo.get(node)
        if found is None:
            if node.op == "near" or is_global(node):
                found = self.stage(node.args[0]) + 1
            elif node.op == "site":
                found = self.available.get(node.data[0], 0)
            else:
                found = max((self.stage(a) for a in node.args), default=0)
            self.memo[node] = found
        return found

    def program(self) -> Program:
        found = self._global_nodes()
        self._split_sums()
        last = max((self.stage(o.node) for o in self.outputs), default=0)
        placed: list[list[Output]] = [[] for _ in range(last + 1)]
        for output in self.outputs:
            placed[self.stage(output.node)].append(output)
        done: dict[int, list[Global]] = {}
        for node in found:
            operation = Global(node.data, field_name(node.args[0]), global_name(node), tangent=node.op == "global_t")
            done.setdefault(self.stage(node.args[0]), []).append(operation)
        fields = {n: [o.name for o in s if o.kind == "site" and o.name.startswith("field")] for n, s in enumerate(placed)}
        adjoints = {n: sorted({o.name for o in s if o.kind == "near"}) for n, s in enumerate(placed)}
        lowered = [[replace(o, node=_read_globals(o.node)) for o in s] for s in placed]
        return Program([list(s) for s in lowered], fields, adjoints, done, self.pulls)

    def _global_nodes(self) -> list[Node]:
        """All global operations of the outputs; what they map is stored for each site."""
        pending, found = [o.node for o in self.outputs], dict[Node, None]()
        while pending:
            for node in walk([pending.pop()]):
                if is_global(node) and node not in found:
                    found[node] = None
                    if field_name(node.args[0]) not in {o.name for o in self.outputs}:
                        self.outputs.append(Output("site", node.args[0], field_name(node.args[0])))
        return sorted(found, key=lambda n: n.key)

    def _split_sums(self) -> None:
        """Parts of a site sum that are known in an earlier stage are stored there, so that no loop over neighbours is run twice."""
        if not any(is_global(n) for n in walk([o.node for o in self.outputs])):
            return
        for output in [o for o in self.outputs if o.kind == "site" and o.node.op == "add"]:
            last, parts = self.stage(output.node), list(output.node.args)
            for stage in sorted({self.stage(p) for p in parts} - {last}):
                early = add(*(p for p in parts if self.stage(p) == stage))
                if not neighbors_inside(early):
                    continue
                name = f"part {early.key.hex()}"
                if name not in self.available:
                    self.available[name] = stage
                    self.outputs.append(Output("site", early, name))
                parts = [p for p in parts if self.stage(p) != stage]
                output.node = add(*parts, site_input(name))
                parts = list(output.node.args) if output.node.op == "add" else [output.node]


def _read_globals(node: Node) -> Node:
    """The node with global operations replaced by the site arrays that hold their values."""

    def here(n: Node) -> Node | None:
        return n if n.op == "near" else site_input(global_name(n)) if is_global(n) else None

    return rewrite(node, here) if any(is_global(n) for n in walk([node])) else node


def halved(energy: Node, symmetric: Callable[[Node], bool]) -> Node | None:
    """The energy for a list that holds each pair once, or None if it is not a plain sum over symmetric pairs.

    Such a sum is sum_j f(r_j) with coefficients that do not depend on the order of the pair: each term counts twice.
    """
    parts = energy.args if energy.op == "add" else (energy,)
    doubled: list[Node] = []
    for part in parts:
        factors = _factors(part)
        sums = [f for f in factors if neighbors_inside(f)]
        if not sums:
            doubled.append(part)
            continue
        if len(sums) > 1 or sums[0].op != "sum" or not all(symmetric(leaf) for leaf in walk(factors)) or not _plain(sums[0]):
            return None
        doubled.append(mul(2.0, part))
    return add(*doubled) if any(neighbors_inside(p) for p in parts) else None


def _factors(node: Node) -> list[Node]:
    return [f for a in node.args for f in _factors(a)] if node.op == "mul" else [node]


def neighbors_inside(node: Node) -> bool:
    return any(n.op in ("sum", "near") for n in walk([node]))


def _plain(node: Node) -> bool:
    """A sum over one neighbour of a function of the distance: displacements occur in the length alone."""
    inner = walk([node.args[0]])
    lengths = [n for n in inner if n.op == "norm" or _is_square(n)]
    inside = set(walk([a for n in lengths for a in n.args]))
    users = {a for n in inner if n not in lengths and n not in inside for a in n.args}
    bare = [n for n in inner if n.op == "d" and (n not in inside or n in users)]
    looped = {i for n in inner for i in neighbors(n.free)}
    return len(looped) <= 1 and not bare and not any(n.op in ("sum", "at", "near", "stack") for n in inner)


def _is_square(node: Node) -> bool:
    """Whether a node is dx^2 + dy^2 + dz^2."""
    squares = [a for a in node.args if a.op == "pow" and a.data == (2,) and a.args[0].op == "d"]
    return node.op == "add" and len(squares) == len(node.args) == len({a.args[0].data[1] for a in squares}) == 3


__all__ = ["Program", "energies", "field_name", "forces", "gradient", "halved", "parse_index", "tangent", "values", "with_second"]
