"""Placing a program in loops: which sums share a loop nest, what is stored for each neighbour, what is recomputed.

A sum ends a loop, not a kernel. The *level* of a node counts the loop nests that must have ended before it is known. All work of one level
and one pair of loops shares one nest. A quantity of a single neighbour that a later nest needs is kept in a *row* (one number for each
neighbour) when it is dear, and recomputed when it is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from composer.codegen.outputs import Output
from composer.codegen.printer import Lowering
from composer.codegen.recompute import DEAR, LEAVES, settled
from composer.errors import BackendError
from composer.ir.indices import Index, Neighbor, Range, Species, neighbors
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, elements, given_of, relation_of, static_of, swap


@dataclass
class Nest:
    """Loops over neighbours and static ranges, with the sums formed and the rows stored inside."""

    level: int
    loops: tuple[Neighbor, ...]
    relation: str = ""
    ranges: tuple[Range | Species, ...] = ()
    sums: list[Node] = field(default_factory=list)
    stores: list[Node] = field(default_factory=list)
    sinks: list[Output] = field(default_factory=list)
    frontier: dict[Node, None] = field(default_factory=dict)
    visited: set[Node] = field(default_factory=set)

    @property
    def order(self) -> tuple:
        """Execution order: by level; within it plain neighbour loops (long ones first), ranges, pairs of neighbours."""
        kind = 0 if len(self.loops) == 1 and not self.ranges else 1 if len(self.loops) < 2 else 2
        return (self.level, kind, [-n.cutoff for n in self.loops], [r.key for r in self.ranges], self.relation, [n.key for n in self.loops])


class Schedule:
    """The loop nests of one stage, in execution order, with rows, arrays and site scalars.

    `keep`: what a later loop needs of each neighbour is kept where that is dear to recompute; without, it is always recomputed.
    """

    def __init__(self, outputs: Iterable[Output], keep: bool = True) -> None:
        self.lower, self.keep = Lowering(), keep
        self.outputs = [Output(o.kind, self.lower(o.node), o.name, o.axis, o.target) for o in outputs]
        self._levels: dict[Node, int] = {}
        self._nests: dict[tuple, Nest] = {}
        self.rows: dict[Node, int] = {}  # node of one neighbour -> row
        self.arrays: dict[Node, tuple[Range | Species, ...]] = {}  # static indices of values kept as arrays of the site
        self.array_rows: dict[Node, tuple[int, tuple[Range | Species, ...]]] = {}  # arrays of rows: first row, static indices
        self.stack_rows: dict[Node, list[Node]] = {}  # stack of one neighbour -> its elements
        self.site: dict[Node, None] = {}  # scalars of the site, arguments first
        self.stacks: dict[Node, None] = {}  # stacks and other values of the site kept as arrays, arguments first
        self.placed: dict[Node, Nest] = {}
        self.forms: dict[Node, Node] = {}  # how a placed sum is run: itself or its mirror image
        self._read_apart: dict[Node, set[str]] = {}  # indices of which single elements are read
        self.row_count = 0
        self.uses_length = self.uses_inverse = False
        for output in self.outputs:
            self._root(output)
        self.nests = settled(self, self._nests)
        self.arrays = {n: self._ordered(n, static) for n, static in self.arrays.items()}

    def _ordered(self, node: Node, static: tuple[Range | Species, ...]) -> tuple[Range | Species, ...]:
        """Indices whose elements are written or read one by one come first, so that the others lie side by side."""
        apart = {node.data[0]} if node.op == "stack" else self._read_apart.get(node, ())
        return tuple(sorted(static, key=lambda i: i.key not in apart))

    # ---- levels

    def level(self, node: Node) -> int:
        found = self._levels.get(node)
        if found is None:
            inner = () if node.op == "near" else node.args
            found = max((self.level(a) for a in inner), default=0) + (node.op == "sum")
            self._levels[node] = found
        return found

    # ---- roots

    def _root(self, output: Output) -> None:
        looped = neighbors(output.node.free)
        if output.kind in ("force", "near", "row") and len(looped) == 1:
            nest = self._nest(self.level(output.node), looped)
            nest.sinks.append(output)
            self._visit(nest, output.node)
        elif not output.node.free and output.kind != "row":
            self.need_site(output.node)
        elif not looped and output.kind == "parameter":
            self._need_array_parts(output.node, output.node.free)
        else:
            raise BackendError(
                f"An output {output.kind} on indices {[i.key for i in output.node.free]} was asked for. It must live on a site or one neighbour. Sum first."
            )

    def _nest(self, level: int, loops: tuple[Neighbor, ...], relation: str = "", ranges: tuple = ()) -> Nest:
        key = (level, loops, relation, ranges)
        if key not in self._nests:
            self._nests[key] = Nest(level, loops, relation, ranges)
        return self._nests[key]

    # ---- what the site needs

    def need_site(self, node: Node) -> None:
        """Make a scalar of the site available (a local of the site's scope)."""
        pending = [(node, False)]
        while pending:
            node, done = pending.pop()
            if done:
                self.site.setdefault(node)
                continue
            if node in self.site or node.op == "const":
                continue
            pending.append((node, True))
            if node.op == "sum":
                self.need_sum(node)
            elif node.op == "at":
                self._need_root_of(node)
            elif node.op not in LEAVES:
                pending.extend((a, False) for a in node.args)

    def _need_root_of(self, node: Node) -> None:
        apart = set()
        while node.op == "at":
            apart.add(node.data[0])
            node = node.args[0]
        self._read_apart.setdefault(node, set()).update(apart)
        self.need_sum(node)

    def _need_array_parts(self, node: Node, context: frozenset[Index] = frozenset()) -> None:
        """Operands of a value on static indices: sums and stacks as arrays, scalars of the site as locals."""
        if not node.free:
            self.need_site(node)
        elif node.op == "sum":
            self.need_sum(node)
        elif node.op == "at":
            self._need_root_of(node)
        elif node.op == "stack":
            self.need_stack(node)
        elif self._is_map(node, context):
            self.need_map(node)
        elif node.op not in LEAVES:
            for arg in node.args:
                self._need_array_parts(arg, context)

    def need_map(self, node: Node) -> None:
        """Keep a value on static ranges as an array: it is dear, or used for all values of a further range."""
        if node in self.stacks:
            return
        for arg in node.args:
            self._need_array_parts(arg, node.free)
        self.stacks[node] = None
        self.arrays[node] = static_of(node)

    @staticmethod
    def _is_map(node: Node, context: frozenset[Index]) -> bool:
        if not node.free or node.op in LEAVES or node.op in ("sum", "at", "stack") or not all(isinstance(i, Range) for i in node.free):
            return False
        plain = node.op == "mul" and node.args[0].op == "const"
        return node.op in DEAR or (node.free < context and not plain)

    def need_stack(self, node: Node) -> None:
        """Keep a stack of the site as an array; elements that run over further ranges are filled in loops."""
        if node in self.stacks:
            return
        for arg in node.args:
            for value in self.entries(arg).values():
                self._need_array_parts(value)
        self.stacks[node] = None
        self.arrays[node] = static_of(node)

    def entries(self, arg: Node) -> dict[tuple[int, ...], Node]:
        """The values of one element of a stack: a stack inside is written out, anything else is left to a loop."""
        if arg.op == "stack":
            return {k: self.lower(v) for k, v in elements(arg, static_of(arg)).items()}
        return {(): arg}

    # ---- sums

    def need_sum(self, node: Node) -> None:
        """Place a sum in the nest of its loops.

        A sum over k for each j can also run as a sum over j that is scattered to k, with the roles exchanged: "gt" always does, and any
        other one does when more of its body is computed in the nest of that form anyway.
        """
        if node in self.placed:
            return
        form, relation = node, relation_of(node)
        if relation in ("gt", "ne") and neighbors(node.free):
            mirrored = self.lower(swap(node))
            if relation == "gt" or self._new_work(mirrored) < self._new_work(node):
                form = mirrored
        self.forms[node] = form
        self._place(node, form, form.args[0], relation_of(form))

    def _new_work(self, form: Node) -> int:
        """Nodes of two neighbours in the body of a sum that its nest does not compute yet."""
        nest = self._nests.get((self.level(form.args[0]), self._loops(form), relation_of(form), ()))
        seen: set[Node] = set(nest.visited) if nest else set()
        pending, count = [form.args[0]], 0
        while pending:
            node = pending.pop()
            if node not in seen and len(neighbors(node.free)) == 2 and node.op not in ("sum", "at"):
                seen.add(node)
                count += 1
                pending.extend(node.args)
        return count

    def _loops(self, form: Node) -> tuple[Neighbor, ...]:
        given = given_of(form)
        return neighbors(form.args[0].free | bound_of(form) | ({given} if given else set()))

    def _place(self, node: Node, as_summed: Node, body: Node, relation: str) -> None:
        loops = self._loops(as_summed)
        slots = {n.slot for n in loops}
        static = {i for i in body.free | bound_of(as_summed) if isinstance(i, Range) or (isinstance(i, Species) and i.slot not in slots)}
        ranges = tuple(sorted(static, key=lambda i: (isinstance(i, Range), i.key)))
        if len(loops) == 2 and ranges:
            raise BackendError(
                "A sum over two neighbours with a static range was asked for. The scheduler has no nest for it. List the elements one by one."
            )
        nest = self._nest(self.level(body), loops, relation if len(loops) == 2 else "", ranges)
        nest.sums.append(node)
        self.placed[node] = nest
        outer = neighbors(node.free)
        if outer and not static_of(node):
            self._row(node)
        elif outer:
            self._rows(node)
        elif node.free:
            self.arrays[node] = static_of(node)
        self._visit(nest, body)

    # ---- rows

    def _row(self, node: Node) -> None:
        self.rows[node] = self.row_count
        self.row_count += 1

    def _rows(self, node: Node) -> None:
        static = static_of(node)
        self.array_rows[node] = (self.row_count, static)
        count = 1
        for index in static:
            count *= index.size
        self.row_count += count

    def need_row(self, node: Node) -> None:
        """Keep a quantity of the neighbour j in a row, stored by the plain loop of its level."""
        node = self.canonical(node)
        if node in self.rows or node.op in LEAVES or self.geometry(node):
            return
        if node.op == "sum":
            self.need_sum(node)
            return
        if node.op == "at":
            self._need_root_of(node)
            return
        self._row(node)
        nest = self._nest(self.level(node), neighbors(node.free))
        nest.stores.append(node)
        self._visit(nest, node)

    def need_stack_rows(self, node: Node) -> None:
        if node in self.array_rows:
            return
        self._rows(node)
        nest = self._nest(self.level(node), neighbors(node.free))
        for value in elements(node, static_of(node)).values():
            value = self.lower(value)
            self.stack_rows.setdefault(node, []).append(value)
            if neighbors(value.free):
                nest.stores.append(value)
                self._visit(nest, value)
            elif value.op != "const":
                self.need_site(value)

    def canonical(self, node: Node) -> Node:
        """A quantity of the second neighbour k, written for j."""
        looped = neighbors(node.free)
        return self.lower(swap(node)) if len(looped) == 1 and looped[0].slot == "k" else node

    def geometry(self, node: Node) -> bool:
        """Length of a displacement and its inverse are kept for all neighbours by the gather."""
        length = node.op == "norm" and all(a.op == "d" for a in node.args)
        inverse = node.op == "pow" and node.data == (-1,) and node.args[0].op == "norm" and all(a.op == "d" for a in node.args[0].args)
        self.uses_length |= length or inverse
        self.uses_inverse |= inverse
        return length or inverse

    # ---- visiting the bodies of a nest

    def _visit(self, nest: Nest, root: Node) -> None:
        pending = [root]
        while pending:
            node = pending.pop()
            if node in nest.visited:
                continue
            nest.visited.add(node)
            if not self.available(nest, node, node is root):
                pending.extend(node.args)

    def available(self, nest: Nest, node: Node, is_root: bool) -> bool:
        """Whether a node is loaded in this nest (and then make sure that it is there)."""
        if not node.free:
            self.need_site(node)
            return True
        if node.op in LEAVES or self.geometry(node):
            return True
        if node.op == "sum":
            self.need_sum(self.canonical(node) if not static_of(node) else node)
            return True
        if node.op == "at":
            self._need_root_of(self.canonical(node))
            return True
        looped = neighbors(node.free)
        if nest.ranges and self._is_map(node, frozenset(nest.ranges)):
            self.need_map(node)
            return True
        if node.op == "stack":
            if nest.ranges or not (looped or any(isinstance(i, Range) for i in node.free)):
                (self.need_stack_rows if looped else self.need_stack)(node)
                return True
            raise BackendError(
                "A table of a static range was used in a loop that does not run over it. Found a stack. Read one element of it."
            )
        if not looped:
            return False
        static = [i for i in node.free if isinstance(i, Range)]
        if node.op == "mul" and node.args[0].op == "const":
            return False  # a number in front needs no row of its own
        if len(looped) == 1 and any(isinstance(i, Species) and i.slot != looped[0].slot for i in node.free):
            return False  # the species of the other neighbour: not a quantity of this one alone
        if any(isinstance(i, Species) for i in static_of(node)):
            return False  # the species of the other neighbour is known in this nest alone
        if (len(nest.loops) == 2 and len(looped) == 1) or (nest.ranges and not static):
            self.need_row(node)
            return True
        if len(looped) == 1 and not static and self.level(node) < nest.level and not (is_root and node in nest.stores):
            nest.frontier.setdefault(node)
            return True
        return False


__all__ = ["Nest", "Schedule"]
