"""The programs of a model: what each of its kernels evaluates."""

from __future__ import annotations

from collections.abc import Mapping

from composer.codegen import program as programs
from composer.codegen.jacobian import columns
from composer.codegen.program import Program
from composer.errors import AlgebraError
from composer.ir.indices import Neighbor, Range, neighbors
from composer.ir.nodes import FUNCTIONS, Node
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
            seeded = programs.site_input("seed") * node
            return Program([[columns(seeded, per, species)]], {0: []}, {0: []})  # type: ignore[list-item]
    raise AlgebraError(f"A kernel {kind!r} was asked for. Known are {', '.join(KINDS)}, half for plain sums over pairs. Use one of these.")


def halved(node: Node, per: Mapping[str, str], species: int) -> Node | None:
    """The energy for a list with each pair once, where the expression is a plain sum over pairs."""

    def symmetric(leaf: Node) -> bool:
        if leaf.op not in ("param", "param_t"):
            return True
        return species == 1 or per[leaf.data[0]] in ("model", "pair") or leaf.data[0] == E0

    return programs.halved(node, symmetric)


def cutoff(node: Node) -> float:
    """The largest distance (Å) at which atoms see each other, 1 where they never do."""
    return max((i.cutoff for n in _everything(node) for i in n.free if isinstance(i, Neighbor)), default=1.0)


def factored(node: Node) -> bool:
    """Whether columns of the Jacobian share sums over neighbours: one stage, and no layer of a network.

    In a layer every column depends on every sum, and there is nothing to share; each column is then a tangent.
    """
    inner = _everything(node)
    layered = any(n.op in FUNCTIONS and any(isinstance(i, Range) for i in n.free) and not neighbors(n.free) for n in inner)
    return not layered and not any(n.op == "near" for n in inner)


def _everything(node: Node) -> list[Node]:
    seen: dict[Node, None] = {}
    pending = [node]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen[one] = None
            pending.extend(one.args)
    return list(seen)
