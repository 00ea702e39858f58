"""The Jacobian of forces by parameters, factored through the sums over neighbours.

With S_c the sums over neighbours ("channels") of a site, dF/dtheta_q = sum_c W[q, c] B[c], where W[q, c] = d2e / dtheta_q dS_c is a scalar
of the site and B[c] = dS_c / d(x_j - x_i) a row of the neighbours. W is sparse and known symbolically, so that a column costs a
few products for each neighbour, however rich the expression is. Only for programs of one stage.
"""

from __future__ import annotations

from composer.codegen.outputs import Table
from composer.codegen.program import is_learnable, walk
from composer.ir.indices import Neighbor, Species, parse_index
from composer.ir.jvp import Tangent
from composer.ir.nodes import ONE, ZERO, Node, add, make
from composer.ir.sums import bound_of, element, elements, rebuild
from composer.ir.vjp import vjp

Slot = tuple[str, tuple, tuple]


def columns(energy: Node, per: dict[str, str], species: int) -> Table:
    """The table of all force columns of sum_i e_i; `per` tells how the rows of each parameter are chosen."""
    gradients = parameter_gradients(energy, per)
    channels: dict[tuple[Node, int], int] = {}
    rows: dict[tuple, int] = {}
    table = Table([], [0], [], [], [])
    for slot, node in sorted(gradients.items(), key=lambda item: repr(item[0])):
        weights = vjp([(node, ONE)], _is_channel) if node is not ZERO else {}
        entries = [(species_of(c), c, w) for c, w in sorted(weights.items(), key=lambda item: item[0].key)]
        if not entries:
            continue
        table.slots.append(slot)
        for s in range(species):
            for own, channel, weight in entries:
                if own not in (None, s):
                    continue
                table.columns.append(_channel_row(channel, channels, rows, table))
                table.weights.append(weight)
            table.first.append(len(table.columns))
    return table


def parameter_gradients(energy: Node, per: dict[str, str]) -> dict[Slot, Node]:
    """de/dtheta for each element of a parameter that the site sees: slots carry "i" for the species of the site."""
    found: dict[Slot, Node] = {}
    for leaf, adjoint in vjp([(energy, ONE)], is_learnable).items():
        name, kinds, idx = leaf.data
        open_indices = tuple(dict.fromkeys(i for i in (*kinds, *idx) if not isinstance(i, (int, str))))
        for values, node in elements(adjoint, open_indices).items():
            chosen = dict(zip(open_indices, values, strict=True))
            here = tuple(chosen.get(k, k) if not isinstance(k, (int, str)) else k for k in kinds)
            if per[name] == "triplet":
                here = (here[0], *sorted(here[1:], key=str))
            slot = (name, here, tuple(chosen.get(i, i) if not isinstance(i, int) else i for i in idx))
            found[slot] = add(found.get(slot, ZERO), _written_out(node, {}))
    return found


def _written_out(node: Node, memo: dict[Node, Node]) -> Node:
    """The node with sums over static indices alone replaced by their terms."""
    found = memo.get(node)
    if found is None:
        if node.op == "sum" and not any(isinstance(i, Neighbor) for i in bound_of(node)) and not node.free:
            found = add(*(_written_out(v, memo) for v in elements(node.args[0], tuple(bound_of(node))).values()))  # type: ignore[arg-type]
        elif node.op in ("sum", "at"):
            found = _resolve(node, memo)
        else:
            found = rebuild(node, [_written_out(a, memo) for a in node.args])
        memo[node] = found
    return found


def _resolve(node: Node, memo: dict[Node, Node]) -> Node:
    """Reads of elements of static sums are written out too; sums over neighbours stay."""
    chain, root = [], node
    while root.op == "at":
        chain.append((parse_index(root.data[0]), root.data[1]))
        root = root.args[0]
    if root.op != "sum" or any(isinstance(i, Neighbor) for i in bound_of(root)):
        return node
    body = root.args[0]
    for index, value in chain:
        body = element(body, index, value)  # type: ignore[arg-type]
    return add(*(_written_out(v, memo) for v in elements(body, tuple(bound_of(root))).values()))  # type: ignore[arg-type]


def _is_channel(node: Node) -> bool:
    root = _root(node)
    return node.op in ("sum", "at") and not node.free and root.op == "sum" and any(isinstance(i, Neighbor) for i in bound_of(root))


def _root(node: Node) -> Node:
    while node.op == "at":
        node = node.args[0]
    return node


def species_of(channel: Node) -> int | None:
    """The species of neighbours whose motion alone changes a channel, if there is one."""
    if not _of_one_neighbor(_root(channel)):
        return None
    while channel.op == "at":
        if isinstance(parse_index(channel.data[0]), Species):
            return channel.data[1]
        channel = channel.args[0]
    return None


def _channel_row(channel: Node, channels: dict, rows: dict, table: Table) -> int:
    own = species_of(channel)
    found = channels.get((channel, -1 if own is None else own))
    if found is None:
        three = channel_derivative(channel)
        found = rows.get(three)
        if found is None:
            found = rows[three] = len(table.rows) // 3
            table.rows += three
        channels[(channel, -1 if own is None else own)] = found
    return found


def channel_derivative(channel: Node) -> tuple[tuple[Node, ...], tuple[Node, ...], tuple[Node, ...]]:
    """dS/d(x_j - x_i) of a sum over neighbours, on the neighbour j: for each axis one node for each cutoff that contributes."""
    root, body = _root(channel), _root(channel).args[0]
    chain = channel
    while chain.op == "at":
        body = element(body, parse_index(chain.data[0]), chain.data[1])  # type: ignore[arg-type]
        chain = chain.args[0]
    looped = [i for i in bound_of(root) if isinstance(i, Neighbor)]
    if _of_one_neighbor(root):
        x, y, z = (Tangent(lambda leaf, a=axis: ONE if leaf.op == "d" and leaf.data[1] == a else ZERO)(body) for axis in range(3))
        return (_on(x, looped[0]),), (_on(y, looped[0]),), (_on(z, looped[0]),)
    found = sorted(vjp([(channel, ONE)], lambda n: n.op == "d").items(), key=lambda item: item[0].key)
    x, y, z = (tuple(_on(v, next(iter(k.free))) for k, v in found if k.data[1] == axis) for axis in range(3))  # type: ignore[arg-type]
    return x, y, z


def _of_one_neighbor(root: Node) -> bool:
    """Whether the terms of a sum over neighbours depend on one neighbour each."""
    return len([i for i in bound_of(root) if isinstance(i, Neighbor)]) == 1 and not any(n.op == "sum" for n in walk([root.args[0]]))


def _on(node: Node, index: Neighbor) -> Node:
    """A constant derivative still belongs to the neighbour (and is zero beyond its cutoff)."""
    return node if index in node.free else make("mul", (node, make("mark", data=(index.key,), free=(index,))), (), (index, *node.free))


__all__ = ["channel_derivative", "columns", "parameter_gradients", "species_of"]
