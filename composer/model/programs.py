"""The programs of a model: what each of its kernels evaluates."""

from __future__ import annotations

from collections.abc import Mapping

from composer.codegen import program as programs
from composer.codegen.jacobian import columns
from composer.codegen.program import Program
from composer.errors import AlgebraError
from composer.ir.indices import Neighbor, Range, neighbors
from composer.ir.nodes import FUNCTIONS, Node, add
from composer.model.entries import E0

KINDS = ("forces", "seeded", "half", "energies", "parameters", "gradient", "tangent", "columns")


def program(kind: str, node: Node, halved: Node | None, per: Mapping[str, str], species: int) -> Program:
    """The program of a kernel of one of the KINDS for the site energy `node`; `halved` is the energy for a list with each pair once."""
    match kind:
        case "half" if halved is not None:
            return programs.forces(halved)
        case "forces":
            return programs.forces(node)
        case "seeded":
            return programs.forces(node, seeded=True)
        case "energies":
            return programs.energies(node)
        case "parameters":
            return programs.parameters(node)
        case "gradient":
            return programs.gradient(node)
        case "tangent":
            return programs.tangent(node)
        case "columns":
            local = parts(node)[0]
            seeded = programs.site_input("seed") * (node if local is None else local)
            return Program([[columns(seeded, per, species)]], {0: []}, {0: []})  # type: ignore[list-item]
    raise AlgebraError(f"A kernel {kind!r} was asked for. Known are {', '.join(KINDS)}, half for plain sums over pairs. Use one of these.")


def halved(node: Node, per: Mapping[str, str], species: int) -> Node | None:
    """The energy for a list with each pair once, where the expression is a plain sum over pairs."""

    def symmetric(leaf: Node) -> bool:
        if leaf.op not in ("param", "param_t"):
            return True
        return species == 1 or per[leaf.data[0]] in ("model", "pair") or leaf.data[0] == E0

    return programs.halved(node, symmetric)


def sums(node: Node) -> list[tuple]:
    """The global operations of a site energy, by their data."""
    return sorted({tuple(n.data) for n in _everything(node) if n.op == "global"}, key=str)


def parts(node: Node) -> tuple[Node | None, frozenset[str]]:
    """The part of the energy whose Jacobian shares sums over neighbours, if it has any, and the keys of the tables outside of it.

    What has several stages shares none; in a layer of a network every column depends on every sum, and there is nothing to share.
    """
    staged = apart(node)
    local = [p for p in _summands(node) if p not in staged]
    keys = frozenset(n.data[0] for p in staged for n in _everything(p) if n.op == "param")
    return add(*local) if any(n.op == "sum" for p in local for n in _everything(p)) else None, keys


def apart(node: Node) -> list[Node]:
    """The summands whose Jacobian shares nothing: of several stages, or behind a layer of a network."""
    return [p for p in _summands(node) if any(n.op in ("near", "global") or _layer(n) for n in _everything(p))]


def _summands(node: Node) -> tuple[Node, ...]:
    return node.args if node.op == "add" else (node,)


def _layer(node: Node) -> bool:
    return node.op in FUNCTIONS and any(isinstance(i, Range) for i in node.free) and not neighbors(node.free)


def cutoff(node: Node) -> float:
    """The cutoff (Å) of lists of neighbours: the reach, 1 where atoms never see each other."""
    return reach(node) or 1.0


def reach(node: Node) -> float:
    """The largest distance (Å) at which atoms see each other, 0 where they never do."""
    return max((i.cutoff for n in _everything(node) for i in n.free if isinstance(i, Neighbor)), default=0.0)


def _everything(root: Node) -> list[Node]:
    seen: dict[Node, None] = {}
    pending = [root]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen[one] = None
            pending.extend(one.args)
    return list(seen)
